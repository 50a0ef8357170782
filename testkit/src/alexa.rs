//! A pretend Alexa: it sends the directives that Alexa sends, over HTTP, and keeps what it was told.

#![expect(clippy::indexing_slicing, reason = "a key that JSON has not is null, no panic")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Alexa gives a skill 8 seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Largest answer that is read: 300 endpoints fit many times.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// One question and its answer, as they were on the wire.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Namespace and name of the directive, as in `Alexa.ReportState`.
    pub directive: String,
    /// HTTP status.
    pub status: u16,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The body as JSON, or null.
    pub json: Value,
}

impl Exchange {
    /// Namespace and name of the event, as in `Alexa.StateReport`; empty when there is none.
    pub fn event(&self) -> String {
        let header = &self.json["event"]["header"];
        match (header["namespace"].as_str(), header["name"].as_str()) {
            (Some(namespace), Some(name)) => format!("{namespace}.{name}"),
            _ => String::new(),
        }
    }

    /// The value of a property in the answer's context.
    pub fn property(&self, namespace: &str, name: &str) -> Option<&Value> {
        let properties = self.json["context"]["properties"].as_array()?;
        properties.iter().find(|p| p["namespace"] == namespace && p["name"] == name).map(|p| &p["value"])
    }
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The hub was not reached, or hung up.
    #[error("the hub did not answer")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Alexa would have told its customer that the skill does not respond.
    #[error("the hub took more than 8 seconds")]
    TooSlow,
}

/// A pretend Alexa with one customer.
pub struct PretendAlexa {
    url: String,
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Endpoints of the last discovery.
    endpoints: Mutex<Vec<Value>>,
}

/// A directive as Alexa writes it. `endpoint` is empty for those that go to no device.
pub fn directive(namespace: &str, name: &str, endpoint: &str, token: &str, payload: Value) -> Value {
    let mut random = [0u8; 16];
    // A pretend partner whose ids repeat is still a partner: the hub has to stand that.
    let _ = getrandom::fill(&mut random);
    let id: String = random.iter().map(|b| format!("{b:02x}")).collect();
    let mut header = json!({"namespace": namespace, "name": name, "payloadVersion": "3", "messageId": id});
    let scope = json!({"type": "BearerToken", "token": token});
    if namespace == "Alexa.Discovery" {
        return json!({"directive": {"header": header, "payload": {"scope": scope}}});
    }
    if namespace == "Alexa.Authorization" {
        let grant = json!({"type": "OAuth2.AuthorizationCode", "code": "a-code"});
        return json!({"directive": {"header": header, "payload": {"grant": grant, "grantee": scope}}});
    }
    header["correlationToken"] = json!(format!("c-{id}"));
    let target = json!({"scope": scope, "endpointId": endpoint, "cookie": {}});
    json!({"directive": {"header": header, "endpoint": target, "payload": payload}})
}

impl PretendAlexa {
    /// A customer with a token, at a hub whose partners' listener is at `base` (`http://127.0.0.1:8481`).
    pub fn new(base: &str, token: &str) -> Self {
        Self {
            url: format!("{base}/alexa/v3/directives"),
            token: token.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            endpoints: Mutex::new(Vec::new()),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn send_bytes(&self, name: String, bytes: Vec<u8>) -> Result<Exchange, SendError> {
        let request = Request::post(&self.url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| SendError::Http(e.into()))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|e| SendError::Http(e.into()))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES)
                .collect()
                .await
                .map_err(SendError::Http)?
                .to_bytes();
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Ok(Exchange { directive: name, status, body, json })
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(SendError::TooSlow))
    }

    /// Sends one directive.
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn send(
        &self,
        namespace: &str,
        name: &str,
        endpoint: &str,
        payload: Value,
    ) -> Result<Exchange, SendError> {
        let body = directive(namespace, name, endpoint, &self.token, payload);
        self.send_bytes(format!("{namespace}.{name}"), body.to_string().into_bytes()).await
    }

    /// Sends a directive to one instance of a controller (modes, ranges, toggles).
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn send_to_instance(
        &self,
        namespace: &str,
        name: &str,
        instance: &str,
        endpoint: &str,
        payload: Value,
    ) -> Result<Exchange, SendError> {
        let mut body = directive(namespace, name, endpoint, &self.token, payload);
        body["directive"]["header"]["instance"] = json!(instance);
        self.send_bytes(format!("{namespace}.{name}"), body.to_string().into_bytes()).await
    }

    /// Discovers, and remembers the endpoints.
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn discover(&self) -> Result<Exchange, SendError> {
        let exchange = self.send("Alexa.Discovery", "Discover", "", json!({})).await?;
        if let Some(found) = exchange.json["event"]["payload"]["endpoints"].as_array() {
            self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone_from(found);
        }
        Ok(exchange)
    }

    /// Ids of the endpoints found last, in the order in which the hub gave them.
    pub fn endpoints(&self) -> Vec<String> {
        let endpoints = self.endpoints.lock().map(|e| e.clone()).unwrap_or_default();
        endpoints.iter().filter_map(|e| e["endpointId"].as_str().map(str::to_owned)).collect()
    }

    /// The first endpoint found last that has this interface (and, if one is given, this display category).
    pub fn endpoint_with(&self, interface: &str, category: Option<&str>) -> Option<String> {
        let endpoints = self.endpoints.lock().map(|e| e.clone()).unwrap_or_default();
        let lists = |value: &Value, test: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|a| a.iter().any(test));
        endpoints
            .iter()
            .find(|e| {
                lists(&e["capabilities"], &|c| c["interface"] == interface)
                    && category.is_none_or(|wanted| lists(&e["displayCategories"], &|c| c == wanted))
            })
            .and_then(|e| e["endpointId"].as_str().map(str::to_owned))
    }

    /// Reads the state of one endpoint: a person's question or a poll, nothing on the wire tells which.
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn report_state(&self, endpoint: &str) -> Result<Exchange, SendError> {
        self.send("Alexa", "ReportState", endpoint, json!({})).await
    }

    /// "Alexa, set the heating to ... degrees."
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn set_temperature(&self, endpoint: &str, celsius: f64) -> Result<Exchange, SendError> {
        let payload = json!({"targetSetpoint": {"value": celsius, "scale": "CELSIUS"}});
        self.send("Alexa.ThermostatController", "SetTargetTemperature", endpoint, payload).await
    }
}
