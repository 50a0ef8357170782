//! What Alexa sends.

use model::Trigger;
use serde_json::{Map, Value as Json};

use crate::limits::{
    BODY_MAX_BYTES, CORRELATION_TOKEN_MAX_BYTES, ENDPOINT_ID_MAX_CHARS, GRANT_CODE_MAX_BYTES, MESSAGE_ID_MAX_CHARS,
    TOKEN_MAX_BYTES,
};
use crate::strict;

/// Why a body is not a directive. Whoever sent it is not authenticated, since there is no place for a token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`BODY_MAX_BYTES`].
    #[error("the body has {bytes} bytes: a directive has at most {BODY_MAX_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or not such as can be read in one way only (a key stands twice), nested deeper than serde_json's 128
    /// levels, or of too many values.
    #[error("the body is not JSON from line {line}, column {column} on: send a directive as JSON")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON without an object `directive`.
    #[error("the body has no object `directive`: send an Alexa Smart Home v3 directive")]
    NotADirective,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $namespace:literal, $name:literal;)*) => {
        /// The directives that are known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
            /// Any other: answered with INVALID_DIRECTIVE.
            Unknown,
        }

        impl Kind {
            /// Every known directive.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The name in the ledger, as in `Alexa.ReportState`. What a partner made up is `unknown`: its text is not
            /// taken over.
            pub fn message(self) -> &'static str {
                match self { $(Kind::$variant => concat!($namespace, ".", $name),)* Kind::Unknown => "unknown" }
            }

            /// Its namespace; empty for one that is not known.
            pub(crate) fn namespace(self) -> &'static str {
                match self { $(Kind::$variant => $namespace,)* Kind::Unknown => "" }
            }

            fn of(namespace: &str, name: &str) -> Kind {
                match (namespace, name) { $(($namespace, $name) => Kind::$variant,)* _ => Kind::Unknown }
            }
        }
    };
}

kinds! {
    /// Which devices there are.
    Discover = "Alexa.Discovery", "Discover";
    /// The customer lets the skill send events.
    AcceptGrant = "Alexa.Authorization", "AcceptGrant";
    /// The state of one endpoint.
    ReportState = "Alexa", "ReportState";
    /// One or two set points.
    SetTargetTemperature = "Alexa.ThermostatController", "SetTargetTemperature";
    /// Warmer or cooler by so much.
    AdjustTargetTemperature = "Alexa.ThermostatController", "AdjustTargetTemperature";
    /// The thermostat's mode.
    SetThermostatMode = "Alexa.ThermostatController", "SetThermostatMode";
    /// Back to the schedule.
    ResumeSchedule = "Alexa.ThermostatController", "ResumeSchedule";
    /// On.
    TurnOn = "Alexa.PowerController", "TurnOn";
    /// Off.
    TurnOff = "Alexa.PowerController", "TurnOff";
    /// Brightness.
    SetBrightness = "Alexa.BrightnessController", "SetBrightness";
    /// Brighter or darker by so much.
    AdjustBrightness = "Alexa.BrightnessController", "AdjustBrightness";
    /// White, in kelvin.
    SetColorTemperature = "Alexa.ColorTemperatureController", "SetColorTemperature";
    /// Cooler white.
    IncreaseColorTemperature = "Alexa.ColorTemperatureController", "IncreaseColorTemperature";
    /// Warmer white.
    DecreaseColorTemperature = "Alexa.ColorTemperatureController", "DecreaseColorTemperature";
    /// Colour.
    SetColor = "Alexa.ColorController", "SetColor";
    /// Speed of a fan.
    SetPowerLevel = "Alexa.PowerLevelController", "SetPowerLevel";
    /// Faster or slower by so much.
    AdjustPowerLevel = "Alexa.PowerLevelController", "AdjustPowerLevel";
    /// Position of a cover.
    SetPercentage = "Alexa.PercentageController", "SetPercentage";
    /// Position of a cover, by so much.
    AdjustPercentage = "Alexa.PercentageController", "AdjustPercentage";
    /// Speed, position or tilt, by instance.
    SetRangeValue = "Alexa.RangeController", "SetRangeValue";
    /// Speed, position or tilt, by so much.
    AdjustRangeValue = "Alexa.RangeController", "AdjustRangeValue";
    /// A fan swings.
    ToggleOn = "Alexa.ToggleController", "TurnOn";
    /// A fan stands.
    ToggleOff = "Alexa.ToggleController", "TurnOff";
    /// Starts a scene.
    Activate = "Alexa.SceneController", "Activate";
    /// Ends a scene: not taken, since Discovery says that there is no ending.
    Deactivate = "Alexa.SceneController", "Deactivate";
    /// Locks.
    Lock = "Alexa.LockController", "Lock";
    /// Unlocks.
    Unlock = "Alexa.LockController", "Unlock";
    /// Opens or closes a door or cover, turns a fan around, by instance.
    SetMode = "Alexa.ModeController", "SetMode";
    /// The next mode: not taken, since Discovery says that the modes have no order.
    AdjustMode = "Alexa.ModeController", "AdjustMode";
}

impl Kind {
    /// Why the answer leaves.
    pub fn trigger(self) -> Trigger {
        match self {
            Kind::Discover => Trigger::Discovery,
            Kind::ReportState => Trigger::PartnerPoll,
            _ => Trigger::DirectiveResponse,
        }
    }
}

/// A directive. It holds what an answer may need and nothing else: scope and cookie are dropped at parsing, and `Debug`
/// shows neither the token, nor a grant code, nor anything that the partner wrote.
#[derive(Clone, PartialEq)]
pub struct Directive {
    kind: Kind,
    token: Option<String>,
    grant_code: Option<String>,
    malformed: bool,
    message_id: Option<String>,
    pub(crate) correlation_token: Option<String>,
    pub(crate) endpoint_id: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) payload: Map<String, Json>,
}

impl Directive {
    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name in the ledger, as in `Alexa.ReportState`.
    pub fn message_name(&self) -> &'static str {
        self.kind.message()
    }

    /// Alexa's own id of the message: what comes again under it is not done again.
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// True for Discover, which a stranger is answered with an empty list.
    pub fn is_discovery(&self) -> bool {
        self.kind == Kind::Discover
    }

    /// True when the envelope breaks Amazon's rules or a limit. It is answered with INVALID_DIRECTIVE.
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }
}

impl std::fmt::Debug for Directive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directive")
            .field("kind", &self.kind)
            .field("token", &self.token.as_ref().map(|_| "redacted"))
            .field("malformed", &self.malformed)
            .finish_non_exhaustive()
    }
}

/// The bearer token of a directive: in `endpoint.scope`, `payload.scope` or `payload.grantee`. `None` when there is
/// none, when it is no `BearerToken`, when it is too long, and when two places disagree.
pub fn token(directive: &Directive) -> Option<&str> {
    directive.token.as_deref()
}

/// The code of an AcceptGrant, with which the right to send events is fetched. A secret.
pub fn grant_code(directive: &Directive) -> Option<&str> {
    directive.grant_code.as_deref()
}

/// Reads a directive. Unknown ones and those with a broken header are directives too: whoever is authenticated gets
/// an event as an answer. Of a key that is given twice, the last counts.
///
/// # Errors
/// When the body is too large, is not JSON, or has no object `directive`.
pub fn parse(body: &[u8]) -> Result<Directive, ParseError> {
    if body.len() > BODY_MAX_BYTES {
        return Err(ParseError::TooLarge { bytes: body.len() });
    }
    let json: Json = strict::read(body).map_err(|e| ParseError::NotJson { line: e.line(), column: e.column() })?;
    let Some(Json::Object(directive)) = json.get("directive") else { return Err(ParseError::NotADirective) };
    let empty = Map::new();
    let mut malformed = false;
    let mut object = |key: &str| match directive.get(key) {
        Some(Json::Object(o)) => o,
        Some(Json::Null) | None => &empty,
        Some(_) => {
            malformed = true;
            &empty
        }
    };
    let (header, endpoint, payload) = (object("header"), object("endpoint"), object("payload"));

    let places = [endpoint.get("scope"), payload.get("scope"), payload.get("grantee")];
    let mut tokens = places.into_iter().flatten().map(bearer);
    let first = tokens.next().flatten();
    let token = first.filter(|_| tokens.all(|other| other == first)).map(str::to_owned);

    let mut text = |from: &Map<String, Json>, key: &str, fits: fn(&str) -> bool| match from.get(key) {
        Some(Json::String(s)) if fits(s) => Some(s.clone()),
        Some(Json::Null) | None => None,
        Some(_) => {
            malformed = true;
            None
        }
    };
    let kind = match (header.get("namespace"), header.get("name")) {
        (Some(Json::String(namespace)), Some(Json::String(name))) => Kind::of(namespace, name),
        _ => Kind::Unknown,
    };
    let instance = text(header, "instance", |s| s.chars().count() <= ENDPOINT_ID_MAX_CHARS);
    let message_id = text(header, "messageId", |s| !s.is_empty() && s.chars().count() <= MESSAGE_ID_MAX_CHARS);
    let version = text(header, "payloadVersion", |s| s == "3");
    let mut correlation_token =
        text(header, "correlationToken", |s| !s.is_empty() && s.len() <= CORRELATION_TOKEN_MAX_BYTES);
    let mut endpoint_id = text(endpoint, "endpointId", is_endpoint_id);
    malformed |= message_id.is_none() || version.is_none();

    // What is given back must never be the token.
    for given_back in [&mut correlation_token, &mut endpoint_id] {
        if token.as_deref().is_some_and(|t| given_back.as_deref().is_some_and(|g| g.contains(t))) {
            *given_back = None;
            malformed = true;
        }
    }
    let grant_code = payload.get("grant").filter(|_| kind == Kind::AcceptGrant).and_then(code).map(str::to_owned);
    let mut payload = payload.clone();
    payload.retain(|key, _| !matches!(key.as_str(), "scope" | "grantee" | "grant"));
    Ok(Directive { kind, token, grant_code, malformed, message_id, correlation_token, endpoint_id, instance, payload })
}

/// True for what Amazon's message schema takes as an endpoint id.
pub(crate) fn is_endpoint_id(text: &str) -> bool {
    (1..=ENDPOINT_ID_MAX_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=#;:?@&".contains(&b))
}

fn code(grant: &Json) -> Option<&str> {
    let is_code = grant.get("type").and_then(Json::as_str) == Some("OAuth2.AuthorizationCode");
    let code = grant.get("code").and_then(Json::as_str)?;
    (is_code && (1..=GRANT_CODE_MAX_BYTES).contains(&code.len())).then_some(code)
}

fn bearer(scope: &Json) -> Option<&str> {
    let is_bearer = scope.get("type").and_then(Json::as_str) == Some("BearerToken");
    let token = scope.get("token").and_then(Json::as_str)?;
    (is_bearer && (1..=TOKEN_MAX_BYTES).contains(&token.len())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(json: &Json) -> Directive {
        parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_token_is_found_where_alexa_puts_it_and_nowhere_else() {
        let scope = |t: &str| serde_json::json!({"type": "BearerToken", "token": t});
        let with = |endpoint: Json, payload: Json| {
            directive(&serde_json::json!({"directive": {"header": {}, "endpoint": endpoint, "payload": payload}}))
        };
        let none = || serde_json::json!({});
        for (e, p) in [
            (serde_json::json!({"scope": scope("t")}), none()),
            (none(), serde_json::json!({"scope": scope("t")})),
            (none(), serde_json::json!({"grantee": scope("t"), "grant": {"code": "secret"}})),
            (serde_json::json!({"scope": scope("t")}), serde_json::json!({"scope": scope("t")})),
        ] {
            assert_eq!(token(&with(e, p)), Some("t"));
        }
        for (e, p) in [
            (none(), none()),
            (serde_json::json!({"scope": {"type": "Basic", "token": "t"}}), none()),
            (serde_json::json!({"scope": scope("t")}), serde_json::json!({"scope": scope("u")})),
            (serde_json::json!({"scope": scope("t")}), serde_json::json!({"scope": {"type": "Basic", "token": "t"}})),
            (serde_json::json!({"scope": scope("")}), none()),
            (serde_json::json!({"scope": scope(&"x".repeat(TOKEN_MAX_BYTES + 1))}), none()),
            (none(), serde_json::json!({"grant": scope("t")})),
        ] {
            assert_eq!(token(&with(e, p)), None);
        }
    }

    #[test]
    fn secrets_and_partner_text_stay_out_of_debug() {
        let d = directive(&serde_json::json!({"directive": {
            "header": {"namespace": "Alexa.Authorization", "name": "AcceptGrant", "payloadVersion": "3",
                "messageId": "m", "correlationToken": "xyzzy"},
            "payload": {"grant": {"type": "OAuth2.AuthorizationCode", "code": "xyzzy"},
                "grantee": {"type": "BearerToken", "token": "xyzzy"}, "other": "xyzzy"}}}));
        assert_eq!(token(&d), Some("xyzzy"));
        assert!(!format!("{d:?}").contains("xyzzy"), "{d:?}");
        assert_eq!(grant_code(&d), Some("xyzzy"));
        assert!(!d.payload.contains_key("grant"));
        assert!(d.is_malformed() && d.correlation_token.is_none(), "a token that came back would be in the ledger");
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let with = |message_id: usize, correlation: usize, endpoint: usize| {
            directive(&serde_json::json!({"directive": {
                "header": {"namespace": "Alexa", "name": "ReportState", "payloadVersion": "3",
                    "messageId": "m".repeat(message_id), "correlationToken": "c".repeat(correlation)},
                "endpoint": {"endpointId": "e".repeat(endpoint)}, "payload": {}}}))
            .is_malformed()
        };
        assert!(!with(MESSAGE_ID_MAX_CHARS, CORRELATION_TOKEN_MAX_BYTES, ENDPOINT_ID_MAX_CHARS));
        assert!(with(MESSAGE_ID_MAX_CHARS + 1, 1, 1));
        assert!(with(1, CORRELATION_TOKEN_MAX_BYTES + 1, 1));
        assert!(with(1, 1, ENDPOINT_ID_MAX_CHARS + 1));
        assert!(with(0, 1, 1) && with(1, 0, 1) && with(1, 1, 0));

        let mut body = br#"{"directive":{}}"#.to_vec();
        body.resize(BODY_MAX_BYTES, b' ');
        assert!(parse(&body).is_ok());
        body.push(b' ');
        assert_eq!(parse(&body), Err(ParseError::TooLarge { bytes: BODY_MAX_BYTES + 1 }));
    }

    #[test]
    fn what_is_no_directive_is_said_to_be_none() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bad in
            ["", "{", "1e999", "{\"directive\":{}} x", &deep, "\u{feff}{}", "{\"directive\":{},\"directive\":{}}"]
        {
            assert!(matches!(parse(bad.as_bytes()), Err(ParseError::NotJson { .. })), "{bad}");
        }
        assert!(matches!(parse(&[0xff, 0xfe]), Err(ParseError::NotJson { .. })));
        for bad in ["null", "[]", "{}", "{\"directive\":[]}"] {
            assert_eq!(parse(bad.as_bytes()), Err(ParseError::NotADirective), "{bad}");
        }
        let d = parse(br#"{"directive":{}}"#).unwrap();
        assert!(d.is_malformed() && d.kind() == Kind::Unknown);
    }
}
