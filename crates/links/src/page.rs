//! The pages that a member sees while linking: plain HTML without a script, readable on a phone.
//!
//! Before the login they show nothing of the home. What a partner sent is never on them: what is shown of it is looked up
//! by what the household has registered. All text is escaped.

use model::LinkId;
use serde::Serialize;

use crate::oauth::PartnerWords;

/// The style sheet of the pages.
pub const STYLE: &str = include_str!("page.css");

/// Most devices that are listed for one profile; the rest is counted.
pub const DEVICES_SHOWN_MAX: usize = 300;

/// What one profile would give a partner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The profile, by slug.
    pub slug: String,
    /// Its name.
    pub title: String,
    /// What it means.
    pub summary: String,
    /// Device by device.
    pub devices: Vec<OfferedDevice>,
    /// What keeps working, and why.
    pub kept: Vec<(String, String)>,
    /// What is lost, and why.
    pub lost: Vec<(String, String)>,
    /// Sensors of which the member names those that it is for: id, and what the household calls it. What is told of one that is
    /// named stands in the summary, not in `devices`.
    pub sensors: Vec<(String, String)>,
}

/// What one profile would give of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfferedDevice {
    /// What the household calls it.
    pub name: String,
    /// What the partner would call it.
    pub told_name: String,
    /// Property, and how it is told.
    pub told: Vec<(String, String)>,
    /// What it may order.
    pub commands: Vec<String>,
}

/// Login.
#[derive(Clone, Debug)]
pub struct LoginPage<'a> {
    /// Who wants to be linked.
    pub partner: PartnerWords,
    /// The query of the request, for the form to come back with.
    pub query: &'a str,
    /// What ties the form to this browser.
    pub csrf: &'a str,
    /// Why the last attempt was not taken.
    pub problem: Option<&'a str>,
}

/// The choice, after the login.
#[derive(Clone, Debug)]
pub struct ConsentPage<'a> {
    /// Who wants to be linked.
    pub partner: PartnerWords,
    /// The home's name.
    pub home: &'a str,
    /// Who is logged in.
    pub member: &'a str,
    /// The other owners of the home, who are asked too.
    pub asked: &'a [String],
    /// Where the browser goes afterwards.
    pub back_to: &'a str,
    /// What ties the form to this session.
    pub csrf: &'a str,
    /// The profiles, from least to most.
    pub offers: &'a [Offer],
    /// Links that the same client has already, with the day they were made.
    pub existing: &'a [(LinkId, String)],
    /// What stands for the offers: it comes back with the choice, which counts for what was shown alone.
    pub shown: &'a str,
    /// Why the choice made before did not count.
    pub problem: Option<&'a str>,
}

/// Text as HTML, good in an attribute, too.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Marks that change the direction of what follows, and control characters, would let a name lie.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/oauth/style.css\"></head><body><main>\n{body}\n</main></body></html>\n"
    )
}

/// Who asks is not known here: a constant.
pub fn unknown() -> String {
    page(
        "Not linked",
        "<h1>Nothing was linked</h1>\n<p>The request does not come from an assistant that this hub knows, or would send \
         you on to an address that was not registered for it. You can close this page.</p>\n<p>If you are setting this \
         up yourself: compare the client id and the redirect address with <code>vestibule client list</code>.</p>",
    )
}

/// A session that is over: a constant.
pub fn over() -> String {
    page(
        "Start again",
        "<h1>Please start again</h1>\n<p>This took too long, or the page was opened twice. Nothing was linked. Go back to \
         the assistant's app and link from there.</p>",
    )
}

fn alert(problem: Option<&str>) -> String {
    problem.map_or_else(String::new, |p| format!("<p class=\"problem\" role=\"alert\">{}</p>\n", escape(p)))
}

/// Login, before anything of the home is shown.
pub fn login(page_: &LoginPage<'_>) -> String {
    let LoginPage { partner, query, csrf, problem } = page_;
    let (title, company) = (escape(partner.title), escape(partner.company));
    let problem = alert(*problem);
    let body = format!(
        "<h1>Link {title}?</h1>\n<p>{title} ({company}) asks to be linked to this hub. Log in to see what it would get, \
         and to choose. Nothing is shared before that.</p>\n{problem}\
         <form method=\"post\" action=\"/oauth/authorize?{}\">\n<input type=\"hidden\" name=\"csrf\" value=\"{}\">\n\
         <label>Name<input name=\"member\" autocomplete=\"username\" autocapitalize=\"none\" spellcheck=\"false\" \
         required maxlength=\"128\"></label>\n\
         <label>Password<input name=\"password\" type=\"password\" autocomplete=\"current-password\" required \
         maxlength=\"1024\"></label>\n<button>Log in</button>\n</form>\n\
         <p class=\"small\">No name yet? On the hub: <code>vestibule member add NAME</code></p>",
        escape(query),
        escape(csrf),
    );
    page(&format!("Link {}", partner.title), &body)
}

/// The choice: what the partner would get under each profile, and what each costs.
pub fn consent(page_: &ConsentPage<'_>) -> String {
    let ConsentPage { partner, home, member, asked, back_to, csrf, offers, existing, shown, problem } = page_;
    let problem = alert(*problem);
    let asked = match asked {
        [] => String::new(),
        all => format!(
            "<p>{} will be told. What tells whether somebody is at home, or is told unasked, counts a day later, or as soon as \
             every owner has confirmed it.</p>\n",
            escape(&all.join(", "))
        ),
    };
    let (title, company) = (escape(partner.title), escape(partner.company));
    let privacy = partner.privacy.map_or_else(String::new, |url| {
        format!(" <a href=\"{}\" rel=\"noreferrer\">{company}'s privacy policy</a>.", escape(url))
    });
    let cards: String = offers.iter().map(|offer| card(offer, &title)).collect();
    let first = offers.first().map_or("Commands only", |o| o.title.as_str());
    let anew = if existing.is_empty() {
        String::new()
    } else {
        let rows: String = existing
            .iter()
            .map(|(link, made)| {
                format!(
                    "<label class=\"line\"><input type=\"radio\" name=\"renew\" value=\"{}\"> the link made on {}: it \
                     keeps its devices and their names. What you take from it ends now, what you add comes with its \
                     new tokens, and its old ones end with them</label>\n",
                    escape(link.as_str()),
                    escape(made)
                )
            })
            .collect();
        format!(
            "<fieldset><legend>{title} is linked already</legend>\n{rows}\
             <label class=\"line\"><input type=\"radio\" name=\"renew\" value=\"\"> add a further link (for another \
             account); without a choice this is done</label>\n</fieldset>\n"
        )
    };
    let body = format!(
        "<h1>What may {title} know?</h1>\n<p>You are linking {title} ({company}) to <b>{}</b>, as <b>{}</b>. Choose what \
         it gets. Everything else is refused, and everything that it is told is recorded. Grants end by themselves after \
         180 days.</p>\n{asked}{problem}\
         <form method=\"post\" action=\"/oauth/decision\">\n<input type=\"hidden\" name=\"csrf\" value=\"{}\">\n\
         <input type=\"hidden\" name=\"shown\" value=\"{}\">\n\
         <fieldset><legend>Choose one. Without a choice it is {}.</legend>\n{cards}</fieldset>\n{anew}\
         <p>What {company} does with what it is told is its own affair.{privacy} You go back to <b>{}</b>. To end the \
         link: <code>vestibule unlink</code> on the hub, or in {title}'s app.</p>\n\
         <div class=\"buttons\"><button name=\"decision\" value=\"link\">Link</button>\n\
         <button name=\"decision\" value=\"cancel\" class=\"quiet\">Cancel</button></div>\n</form>",
        escape(home),
        escape(member),
        escape(csrf),
        escape(shown),
        escape(first),
        escape(back_to),
    );
    page(&format!("Link {}", partner.title), &body)
}

fn card(offer: &Offer, title: &str) -> String {
    let told = offer.devices.iter().map(|d| d.told.len()).sum::<usize>();
    let orders = offer.devices.iter().filter(|d| !d.commands.is_empty()).count();
    let devices: String = offer.devices.iter().take(DEVICES_SHOWN_MAX).map(|d| device(d, title)).collect();
    let more = offer.devices.len().saturating_sub(DEVICES_SHOWN_MAX);
    let more = if more == 0 { String::new() } else { format!("<p>and {more} more devices</p>\n") };
    let list = |rows: &[(String, String)]| -> String {
        rows.iter()
            .map(|(what, why)| format!("<li>{}<br><small>{}</small></li>\n", escape(what), escape(why)))
            .collect()
    };
    let sensors: String = offer
        .sensors
        .iter()
        .map(|(id, name)| {
            format!(
                "<label class=\"choice\"><input type=\"checkbox\" name=\"sensor\" value=\"{}\"> {}</label>\n",
                escape(id),
                escape(name)
            )
        })
        .collect();
    let sensors = match sensors.as_str() {
        "" => sensors,
        all => format!("<fieldset><legend>For which sensors?</legend>\n{all}</fieldset>\n"),
    };
    format!(
        "<section class=\"card\"><label class=\"choice\"><input type=\"radio\" name=\"profile\" value=\"{}\"> <b>{}</b>\
         </label>\n<p>{}</p>\n{sensors}\
         <details><summary>{orders} devices to command, {told} things told of {} devices</summary>\n{devices}{more}\
         </details>\n<details><summary>What you give up: {}</summary>\n<ul class=\"lost\">\n{}</ul></details>\n\
         <details><summary>What keeps working</summary>\n<ul>\n{}</ul></details></section>\n",
        escape(&offer.slug),
        escape(&offer.title),
        escape(offer.summary.trim()),
        offer.devices.iter().filter(|d| !d.told.is_empty()).count(),
        offer.lost.len(),
        list(&offer.lost),
        list(&offer.kept),
    )
}

fn device(device: &OfferedDevice, title: &str) -> String {
    let told: String = device
        .told
        .iter()
        .map(|(property, how)| format!("<li><b>{}</b>: {}</li>\n", escape(property), escape(how)))
        .collect();
    let told = if told.is_empty() { "<li>nothing of it is told</li>\n".to_owned() } else { told };
    let commands = if device.commands.is_empty() {
        String::new()
    } else {
        format!("<li>{title} may command: {}</li>\n", escape(&device.commands.join(", ")))
    };
    format!(
        "<h3>{}</h3>\n<ul>\n<li>{title} calls it \u{201c}{}\u{201d}</li>\n{told}{commands}</ul>\n",
        escape(&device.name),
        escape(&device.told_name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_nothing_is_chosen_beforehand() {
        let nasty = "<script>alert(1)</script>\"'\u{202e}\n";
        let offers = [Offer {
            slug: "commands-only".into(),
            title: "Commands only".into(),
            devices: vec![OfferedDevice {
                name: nasty.into(),
                told_name: nasty.into(),
                told: vec![(nasty.into(), nasty.into())],
                commands: vec![nasty.into()],
            }],
            ..Offer::default()
        }];
        let partner = crate::oauth::partner_words(&model::PartnerId::new("alexa").unwrap());
        let html = consent(&ConsentPage {
            partner,
            home: nasty,
            member: nasty,
            asked: &[nasty.into()],
            back_to: nasty,
            csrf: nasty,
            offers: &offers,
            existing: &[(LinkId::new("lnk-1").unwrap(), nasty.into())],
            shown: nasty,
            problem: Some(nasty),
        }) + &login(&LoginPage { partner, query: nasty, csrf: nasty, problem: Some(nasty) });
        assert!(!html.contains("<script") && !html.contains('\u{202e}') && !html.contains("alert(1)\"'"), "{html}");
        assert!(!html.contains("checked") && !html.contains("style="), "no choice is made, no inline style");
        assert!(html.contains("Without a choice it is Commands only") && html.contains("counts a day later"));
    }
}
