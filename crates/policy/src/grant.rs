//! A member's consent, and the policy that it generates.

use model::{DeviceId, GrantId, HouseholdId, LinkId, MemberId, Property, Rung, Timestamp, Trigger};
use serde::{Deserialize, Serialize};

use crate::profile::Terms;
use crate::table::rung_words;
use crate::when::{Hours, Name};

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// To be told, at this rung or coarser.
    Disclose {
        /// For this reason.
        trigger: Trigger,
        /// The finest rung.
        rung: Rung,
    },
    /// To command.
    Control {
        /// True for unlocking and opening, false for all else.
        open: bool,
    },
}

/// Who must have asked a person for a code before a command counts, the weaker first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The partner, as Alexa does before it sends an order to unlock: the hub takes its word.
    Partner,
    /// The hub: the link's PIN comes with the command.
    Pin,
}

impl Code {
    /// The name used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Partner => "partner",
            Code::Pin => "pin",
        }
    }
}

impl What {
    /// Whether both are of one thing, at whatever rung.
    pub fn is_same(self, other: What) -> bool {
        match (self, other) {
            (What::Disclose { trigger: a, .. }, What::Disclose { trigger: b, .. }) => a == b,
            (What::Control { open: a }, What::Control { open: b }) => a == b,
            _ => false,
        }
    }
}

/// A member's consent: one link, one property of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id, which is also the id of its policy.
    pub id: GrantId,
    /// The home.
    pub household: HouseholdId,
    /// Who may.
    pub link: LinkId,
    /// Of which device.
    pub device: DeviceId,
    /// Which property.
    pub property: Property,
    /// What.
    pub what: What,
    /// Until when; from then on it is refused.
    pub expires: Option<Timestamp>,
    /// Who gave it.
    pub granted_by: MemberId,
    /// Whom it affects.
    pub affects: Vec<MemberId>,
    /// When it was given.
    pub created: Timestamp,
    /// The profile that it came with, by slug.
    pub profile: Option<String>,
    /// Only within these hours, if any are named; at most [`HOURS_MAX`](crate::HOURS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// Only while the household has opened this window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Name>,
    /// It has expired already, and tells a rung less for a while before it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stepped_down: bool,
    /// The partner's routine that it is for. No partner says which routine of its own asks: this is what the household agreed
    /// to it for, and what it is taken back by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routine: Option<Name>,
    /// Of a command: only with this code. To unlock or open it takes the PIN where nothing is said: see [`Grant::needs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

impl Grant {
    /// The code that a command under it needs. What unlocks or opens the home always needs one.
    pub fn needs(&self) -> Option<Code> {
        match self.what {
            What::Control { open: true } => Some(self.code.unwrap_or(Code::Pin)),
            What::Control { open: false } => self.code,
            What::Disclose { .. } => None,
        }
    }

    /// A grant of one thing by somebody: without an end, conditions or code, which are said beside it.
    pub fn new(
        id: GrantId,
        (household, link, device, property): (HouseholdId, LinkId, DeviceId, Property),
        what: What,
        terms: &Terms,
    ) -> Self {
        Self {
            id,
            household,
            link,
            device,
            property,
            what,
            expires: None,
            granted_by: terms.granted_by.clone(),
            affects: terms.affects.clone(),
            created: terms.now,
            profile: None,
            hours: Vec::new(),
            window: None,
            routine: None,
            stepped_down: false,
            code: None,
        }
    }

    /// Whether it still holds.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|t| now < t)
    }

    /// What becomes of it when it expires: where there is a coarser rung it is told at that for [`STEP_DOWN_DAYS`] more, so that
    /// what the household uses gets worse before it fails. Once; then it ends.
    pub fn step_down(&self) -> Option<Grant> {
        let What::Disclose { trigger, rung } = self.what else { return None };
        let next = rung.step_down().filter(|next| !self.property.is_metadata() && self.property.takes(*next))?;
        let expires = self.expires?.plus_millis(STEP_DOWN_DAYS * DAY_MS);
        let what = What::Disclose { trigger, rung: next };
        (!self.stepped_down).then(|| Grant { what, expires: Some(expires), stepped_down: true, ..self.clone() })
    }

    /// Whether it is of what the device is and whether it is there: that counts at all times, for it would come and go otherwise.
    pub fn describes(&self) -> bool {
        self.property.is_metadata() || self.property == Property::Reachable
    }

    /// Whether it counts at some times alone.
    pub fn is_conditional(&self) -> bool {
        !self.hours.is_empty() || self.window.is_some()
    }

    /// With which code and when it counts, and what it is for, in plain words; empty when it counts at all times, for whatever.
    pub fn conditions(&self) -> String {
        let hours: Vec<String> = self.hours.iter().map(ToString::to_string).collect();
        let hours = (!hours.is_empty()).then(|| format!("only {}", hours.join(" and ")));
        let window = self.window.as_ref().map(|name| format!("only while the window \u{201c}{name}\u{201d} is open"));
        let routine = self.routine.as_ref().map(|name| format!("for the routine \u{201c}{name}\u{201d}"));
        let code = self.needs().map(|code| code_words(code).to_owned());
        [code, hours, window, routine].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The Cedar policy as text. Ids hold no character that could end a string, so nothing is escaped.
    pub fn policy_text(&self) -> String {
        let resource = resource(&self.device, self.property);
        let (link, resource) =
            (format!("Vestibule::Link::\"{}\"", self.link), format!("Vestibule::Property::\"{resource}\""));
        format!("@id(\"{}\")\n{}", self.id, self.permit(&link, &resource))
    }

    /// The same for whichever link and property: Cedar reads the few that there are, where it would take long over a text for
    /// each grant.
    pub(crate) fn template_text(&self) -> String {
        self.permit("?principal", "?resource")
    }

    fn permit(&self, principal: &str, resource: &str) -> String {
        let (action, condition) = match self.what {
            What::Disclose { trigger, rung } => {
                let rungs: Vec<String> = rung.gives().iter().map(|r| format!("Vestibule::Rung::\"{r}\"")).collect();
                (trigger.as_str(), format!("\nwhen {{ [{}].contains(context.rung) }}", rungs.join(", ")))
            }
            What::Control { open } => (if open { "open" } else { "control" }, self.code_text()),
        };
        format!(
            "permit (\n  principal == {principal},\n  action == Vestibule::Action::\"{action}\",\n  \
             resource == {resource}\n){condition};\n"
        )
    }
}

impl Grant {
    /// A stronger code than the one that is needed will do.
    fn code_text(&self) -> String {
        let codes: &[Code] = match self.needs() {
            None => return String::new(),
            Some(Code::Partner) => &[Code::Partner, Code::Pin],
            Some(Code::Pin) => &[Code::Pin],
        };
        let codes: Vec<String> = codes.iter().map(|c| format!("Vestibule::Code::\"{}\"", c.as_str())).collect();
        format!("\nwhen {{ [{}].contains(context.code) }}", codes.join(", "))
    }
}

/// Which code is needed, in plain words.
pub fn code_words(code: Code) -> &'static str {
    match code {
        Code::Partner => "once the partner has asked for its own code",
        Code::Pin => "with the PIN",
    }
}

/// For how many days an expired grant tells a rung less before it ends.
pub const STEP_DOWN_DAYS: i64 = 30;

const DAY_MS: i64 = 86_400_000;

/// How many days a grant lasts at most: what is sent unasked is agreed to more often than what is asked for.
pub fn days_at_most(what: What) -> i64 {
    match what {
        What::Disclose { trigger: Trigger::ProactiveReport, .. } => 30,
        What::Disclose { .. } | What::Control { .. } => 180,
    }
}

/// What is granted, in plain words.
pub fn in_words(what: What) -> String {
    match what {
        What::Disclose { trigger: Trigger::Discovery, .. } => "told at discovery".to_owned(),
        What::Disclose { trigger: Trigger::DirectiveResponse, rung } => {
            format!("told after its commands, {}", rung_words(rung))
        }
        What::Disclose { trigger: Trigger::PartnerPoll, rung } => format!("told when it asks, {}", rung_words(rung)),
        What::Disclose { trigger: Trigger::ProactiveReport, rung } => format!("told unasked, {}", rung_words(rung)),
        What::Control { open: false } => "may command it".to_owned(),
        What::Control { open: true } => "may unlock or open it".to_owned(),
    }
}

/// Cedar's id of a property of a device. No device id has a slash.
pub(crate) fn resource(device: &DeviceId, property: Property) -> String {
    format!("{device}/{property}")
}
