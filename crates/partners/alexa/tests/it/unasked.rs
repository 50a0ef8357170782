//! What goes to Alexa later or unasked: promised as a whole, split where it can't be, and valid by schema.

use std::sync::Arc;

use alexa::report::{self, Reported};
use gate::Session;
use model::{EndpointId, LockState, Property, Timestamp, Trigger, Value};
use policy::{Grant, What};
use serde_json::{Value as Json, json};

use crate::house::{Broker, House, MESSAGE_ID, device, error, told};
use crate::schema;

impl House {
    fn session(&self) -> Session<Broker> {
        let (state, broker) = (Arc::clone(&self.state), Arc::clone(&self.broker));
        let now = Timestamp::from_millis(self.now);
        Session::new(state, broker, &self.link, now, "Test".into(), MESSAGE_ID.into())
    }

    /// Amazon lets the hub send.
    fn let_send(&self) {
        self.state.lock().unwrap().set_reporting(&self.link.id, true);
    }

    fn split(&mut self, id: &str, split: bool) {
        let mut state = self.state.lock().unwrap();
        let link = state.links.get_mut(&self.link.id).unwrap();
        assert!(link.split(&device(id), split));
        self.link = link.clone();
    }

    /// What has changed of an endpoint since nothing was known, as it goes out.
    fn change(&self, endpoint: &EndpointId) -> Option<Json> {
        let (report, _) = report::change(&mut self.session(), endpoint, &Reported::new(), 10_000)?;
        let event = serde_json::from_slice(&report.wire("amazons-token")).unwrap();
        schema::check_gateway(&event);
        Some(event)
    }
}

fn unasked(grant: &Grant) -> bool {
    matches!(grant.what, What::Disclose { trigger: Trigger::ProactiveReport, .. })
}

fn found(event: &Json, id: &EndpointId) -> Json {
    let all = event["event"]["payload"]["endpoints"].as_array().unwrap();
    all.iter().find(|e| e["endpointId"] == id.as_str()).unwrap_or_else(|| panic!("no {id:?} in {event}")).clone()
}

fn flags(endpoint: &Json) -> Vec<(String, bool)> {
    let all = endpoint["capabilities"].as_array().unwrap().iter().filter(|c| c["interface"] != "Alexa");
    let flag = |c: &Json| c["properties"]["proactivelyReported"].as_bool().unwrap();
    all.map(|c| (c["interface"].as_str().unwrap().trim_start_matches("Alexa.").to_owned(), flag(c))).collect()
}

#[test]
fn a_device_that_is_granted_unasked_in_part_is_split_and_its_sensor_is_reported() {
    let mut house = House::new("everything");
    house.report_all();
    // Of the thermostat, Alexa is told unasked how warm and how moist it is, and that it answers; nothing else.
    let sensed = [Property::LocalTemperature, Property::RelativeHumidity, Property::Reachable];
    let grants: Vec<Grant> = house.grants("everything");
    let keep = |g: &Grant| g.device != device("dual") || !unasked(g) || sensed.contains(&g.property);
    house.put_in_force(&grants.into_iter().filter(keep).collect::<Vec<_>>());
    house.let_send();
    let own = house.link.endpoint(&device("dual"));
    let discover = |house: &House| house.send(&house.directive("", ("Alexa.Discovery", "Discover", ""), json!({})));
    let before = discover(&house);
    assert_eq!(before.mixed, std::slice::from_ref(&own));
    assert!(flags(&found(&before.event(), &own)).iter().all(|(_, reported)| !reported));
    assert_eq!(house.change(&own), None, "what was not promised is not reported");

    house.split("dual", true);
    let after = discover(&house);
    assert_eq!(after.mixed, []);
    let sensor = house.link.endpoints(&device("dual"))[1].0.clone();
    let (control, sensing) = (found(&after.event(), &own), found(&after.event(), &sensor));
    assert!(flags(&control).iter().all(|(interface, reported)| !reported && !interface.ends_with("Sensor")));
    assert_eq!(
        flags(&sensing),
        ["TemperatureSensor", "HumiditySensor", "EndpointHealth"].map(|i| (i.to_owned(), true))
    );
    assert_eq!(sensing["displayCategories"], json!(["TEMPERATURE_SENSOR"]));
    assert_eq!(sensing["friendlyName"], json!(format!("{} sensor", control["friendlyName"].as_str().unwrap())));
    assert_eq!(house.change(&own), None);
    let event = house.change(&sensor).unwrap();
    let changed = event["event"]["payload"]["change"]["properties"].as_array().unwrap();
    let names: Vec<&str> = changed.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["temperature", "relativeHumidity", "connectivity"]);
    // What is told, in which place.
    let poll = |id: &EndpointId| {
        let mut directive = house.directive("dual", ("Alexa", "ReportState", ""), json!({}));
        directive["directive"]["endpoint"]["endpointId"] = json!(id.as_str());
        house.send(&directive).event()
    };
    assert!(told(&poll(&own), "temperature").is_none() && told(&poll(&own), "thermostatMode").is_some());
    assert!(told(&poll(&sensor), "temperature").is_some() && told(&poll(&sensor), "thermostatMode").is_none());
    // The sensor takes no orders, and no answer to an order tells what it senses.
    let mode = |id: &EndpointId| {
        let what = ("Alexa.ThermostatController", "SetThermostatMode", "");
        let mut directive = house.directive("dual", what, json!({"thermostatMode": {"value": "HEAT"}}));
        directive["directive"]["endpoint"]["endpointId"] = json!(id.as_str());
        house.send(&directive).event()
    };
    assert_eq!(error(&mode(&sensor)), Some(("Alexa", "INVALID_DIRECTIVE")));
    let answer = mode(&own);
    assert!(error(&answer).is_none() && told(&answer, "temperature").is_none());
    // Put together again it is what it was.
    house.split("dual", false);
    assert_eq!(discover(&house).event(), before.event());
}

#[test]
fn a_lock_is_deferred_where_its_outcome_can_be_told_and_the_outcome_is_what_the_link_may_see() {
    for (profile, outcome) in [("everything", "UNLOCKED"), ("commands-only", "LOCKED")] {
        let house = House::new(profile);
        house.report_all();
        house.report("lock", Property::LockState, Value::LockState(LockState::Unlocked));
        let lock = house.directive("lock", ("Alexa.LockController", "Lock", ""), json!({}));
        // Nothing can be sent: it is answered now, in the link's own words.
        let answer = house.send(&lock);
        assert_eq!((answer.event_name().as_str(), answer.deferred), ("Alexa.Response", None));
        house.let_send();
        for state in [LockState::Unlocked, LockState::Locked, LockState::Jammed] {
            // Whatever the lock is doing.
            house.report("lock", Property::LockState, Value::LockState(state));
            let answer = house.send(&lock);
            assert_eq!(answer.event_name(), "Alexa.DeferredResponse");
            assert!(answer.deferred.is_some());
        }
        let mut house = house;
        house.now += 1;
        let deferred = house.send(&lock).deferred.unwrap();
        house.now += 10_000;
        house.report("lock", Property::LockState, Value::LockState(LockState::Unlocked));
        let report = report::outcome(&mut house.session(), &deferred).unwrap();
        assert_eq!((report.trigger, report.message), (Trigger::DirectiveResponse, "Alexa.Response"));
        let event: Json = serde_json::from_slice(&report.wire("amazons-token")).unwrap();
        schema::check_gateway(&event);
        assert_eq!(event["event"]["header"]["correlationToken"], "correlation-1");
        assert_eq!(told(&event, "lockState"), Some(&json!(outcome)), "{profile}");
        assert_eq!(house.broker.orders.lock().unwrap().len(), 5, "each of them went to the lock");
    }
}
