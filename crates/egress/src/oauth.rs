//! `/oauth/*` and `/.well-known/oauth-authorization-server`: how a member links a partner.
//!
//! | route | for | what |
//! |---|---|---|
//! | `GET /oauth/authorize` | a member's browser | login; shows nothing of the home |
//! | `POST /oauth/authorize` | a member's browser | name and password |
//! | `GET /oauth/consent` | a member's browser | what the partner would get; the choice |
//! | `POST /oauth/decision` | a member's browser | link or cancel; the way back to the partner |
//! | `POST /oauth/token` | the partner's server | tokens for a code, or for a refresh token |
//! | `POST /oauth/revoke` | the partner's server | takes a token back |
//! | `GET /.well-known/oauth-authorization-server` | anybody | what this server can do |
//!
//! A member's browser is no partner: what a member is shown after the login is the household's own. Tokens are recorded
//! before they leave, with the secrets left out of what is kept.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use axum::routing::{get, post};
use ledger::Receipt;
use links::oauth::{AuthorizeFault, AuthorizeRequest, Credentials, PartnerWords, TokenError, TokenRequest};
use links::page::{self, ConsentPage, LoginPage, Offer};
use links::{Limiter, Token, oauth, same_text};
use model::{Clock, LinkId, MemberId, Timestamp};
use tokio::sync::Semaphore;

use crate::directives::{Recorder, Unread, keep, read, to_its_end};
use crate::limits::{
    CLIENT_BURST, CLIENT_INTERVAL_MS, FAILURES_BURST, FAILURES_INTERVAL_MS, LOGIN_ALL_BURST, LOGIN_ALL_INTERVAL_MS,
    LOGIN_BURST, LOGIN_INTERVAL_MS, LOGINS_IN_FLIGHT_MAX, OAUTH_IN_FLIGHT_MAX, OAUTH_KEYS_MAX, SESSION_MS,
    SESSIONS_MAX,
};
use crate::respond::{constant, recorded};
use crate::tally::Tally;

/// What a member is to choose from.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The home's name.
    pub home: String,
    /// The owners of the home.
    pub owners: Vec<MemberId>,
    /// The profiles, from least to most.
    pub offers: Vec<Offer>,
    /// Links that the same client has already, with the day they were made.
    pub existing: Vec<(LinkId, String)>,
    /// Stands for the offers: the same only while the same is offered.
    pub shown: String,
}

/// What a member has chosen on the page.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The request that was put to the member.
    pub request: AuthorizeRequest,
    /// Who chose.
    pub member: MemberId,
    /// The profile, by slug; none is the least.
    pub profile: Option<String>,
    /// The sensors that it is for, by id, if it takes names.
    pub sensors: Vec<String>,
    /// A link that is to be made anew.
    pub renew: Option<String>,
    /// [`Choice::shown`] of the page that was looked at.
    pub shown: String,
}

/// Why what a member has chosen was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgreeFault {
    /// What is offered has changed since it was shown: it must be looked at again.
    Changed,
    /// It could not be stored, or the choice is not one of those offered.
    Failed(String),
}

/// The house, as linking needs it.
pub trait Linking: Send + Sync + 'static {
    /// The public address of this listener, without a slash at the end.
    fn issuer(&self) -> String;

    /// Reads an authorization request and says whose it is.
    ///
    /// # Errors
    /// See [`AuthorizeFault`].
    fn authorize(&self, query: &str) -> Result<(AuthorizeRequest, PartnerWords), AuthorizeFault>;

    /// The member of this name and password. Slow on purpose: it is called on a blocking thread.
    fn log_in(&self, name: &str, password: &str) -> Option<MemberId>;

    /// What the client would get under each profile. May be slow: it is called on a blocking thread.
    ///
    /// # Errors
    /// When it can't be worked out; then nothing is linked.
    fn choice(&self, request: &AuthorizeRequest) -> Result<Choice, String>;

    /// Stores what a member has agreed to, and gives the code for it.
    ///
    /// # Errors
    /// See [`AgreeFault`].
    fn agree(&self, agreed: &Agreed) -> impl Future<Output = Result<Token, AgreeFault>> + Send;

    /// Checks a client's credentials.
    ///
    /// # Errors
    /// [`TokenError::InvalidClient`].
    fn client(&self, credentials: &Credentials) -> Result<(), TokenError>;

    /// Does what a client asks: the receipt is that of the recorded answer; none is an answer without a body.
    ///
    /// # Errors
    /// What the client is to be told.
    fn token(
        &self,
        credentials: &Credentials,
        request: TokenRequest,
    ) -> impl Future<Output = Result<Option<Receipt>, TokenError>> + Send;
}

/// A member who is logged in and has not chosen yet.
struct Session {
    member: MemberId,
    request: AuthorizeRequest,
    partner: PartnerWords,
    csrf: String,
    until: Timestamp,
    /// The home has changed since the page was shown.
    changed: bool,
}

/// Everything that linking needs.
pub(crate) struct Desk<H, R> {
    pub(crate) house: Arc<H>,
    pub(crate) recorder: Arc<R>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tally: Arc<Tally>,
    /// The room for large bodies, shared with directives.
    bodies: Arc<Semaphore>,
    sessions: Mutex<BTreeMap<String, Session>>,
    limits: Mutex<Limits>,
    logins: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
}

struct Limits {
    login: Limiter,
    all_logins: Limiter,
    failures: Limiter,
    clients: Limiter,
}

type Shared<H, R> = State<Arc<Desk<H, R>>>;

/// Name of the cookie that ties the login form to a browser.
const LOGIN_COOKIE: &str = "__Host-vestibule-login";

/// Name of the cookie of a member who is logged in.
const SESSION_COOKIE: &str = "__Host-vestibule-link";

/// The login was not taken.
const WRONG: &str = "The name or the password is wrong.";

/// What was agreed to is no longer what was shown.
const CHANGED: &str = "Your home has changed since this page was shown: nothing was linked yet. This is how it is now.";

/// The form came from elsewhere, or too late.
const STALE: &str = "This page was too old. Please try again.";

impl<H: Linking, R: Recorder> Desk<H, R> {
    pub(crate) fn new(
        house: Arc<H>,
        recorder: Arc<R>,
        clock: Arc<dyn Clock>,
        tally: Arc<Tally>,
        bodies: Arc<Semaphore>,
    ) -> Self {
        Self {
            house,
            recorder,
            clock,
            tally,
            bodies,
            sessions: Mutex::default(),
            limits: Mutex::new(Limits {
                login: Limiter::new(LOGIN_BURST, LOGIN_INTERVAL_MS, OAUTH_KEYS_MAX),
                all_logins: Limiter::new(LOGIN_ALL_BURST, LOGIN_ALL_INTERVAL_MS, 1),
                failures: Limiter::new(FAILURES_BURST, FAILURES_INTERVAL_MS, 1),
                clients: Limiter::new(CLIENT_BURST, CLIENT_INTERVAL_MS, OAUTH_KEYS_MAX),
            }),
            logins: Arc::new(Semaphore::new(LOGINS_IN_FLIGHT_MAX)),
            in_flight: Arc::new(Semaphore::new(OAUTH_IN_FLIGHT_MAX)),
        }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; the oldest goes when there are too many.
    fn begin(&self, session: Session) -> Option<String> {
        let id = random()?;
        self.resume(id.clone(), session);
        Some(id)
    }

    /// Puts a session in its place.
    fn resume(&self, id: String, session: Session) {
        let now = self.clock.now();
        let mut sessions = self.sessions();
        sessions.retain(|_, s| now < s.until);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.until).map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(id, session);
    }

    fn login_page(&self, query: &str, partner: PartnerWords, problem: Option<&str>) -> Response<Body> {
        let Some(csrf) = random() else { return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), "") };
        let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let mut response = html(status, page::login(&LoginPage { partner, query, csrf: &csrf, problem }), "");
        set_cookie(&mut response, LOGIN_COOKIE, &csrf);
        response
    }
}

/// The routes of linking.
pub(crate) fn routes<H: Linking, R: Recorder>(desk: Arc<Desk<H, R>>) -> Router {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata::<H, R>))
        .route("/oauth/style.css", get(style))
        .route("/oauth/authorize", get(authorize::<H, R>).post(log_in::<H, R>))
        .route("/oauth/consent", get(consent::<H, R>))
        .route("/oauth/decision", post(decide::<H, R>))
        .route("/oauth/token", post(token::<H, R>))
        .route("/oauth/revoke", post(revoke::<H, R>))
        .with_state(desk)
}

async fn metadata<H: Linking, R: Recorder>(State(desk): Shared<H, R>) -> Response<Body> {
    let mut response = Response::new(Body::from(oauth::metadata(&desk.house.issuer()).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn style() -> Response<Body> {
    let mut response = Response::new(Body::from(page::STYLE));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A request that can't be put to a member: the browser is sent back, or shown a constant page.
fn refused(tally: &Tally, fault: AuthorizeFault) -> Response<Body> {
    tally.rejected();
    match fault {
        AuthorizeFault::Unknown => html(StatusCode::BAD_REQUEST, page::unknown(), ""),
        AuthorizeFault::Back(url) => see_other(&url),
    }
}

async fn authorize<H: Linking, R: Recorder>(State(desk): Shared<H, R>, uri: Uri) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    match desk.house.authorize(query) {
        Ok((_, partner)) => desk.login_page(query, partner, None),
        Err(fault) => refused(&desk.tally, fault),
    }
}

async fn log_in<H: Linking, R: Recorder>(
    State(desk): Shared<H, R>,
    uri: Uri,
    request: Request<Body>,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default().to_owned();
    let (asked, partner) = match desk.house.authorize(&query) {
        Ok(read) => read,
        Err(fault) => return refused(&desk.tally, fault),
    };
    let (head, body) = request.into_parts();
    let Some(form) = form(body, &desk.bodies).await else { return desk.login_page(&query, partner, Some(STALE)) };
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default();
    let ours = cookie(&head.headers, LOGIN_COOKIE).is_some_and(|c| same_text(&c, field("csrf")));
    if !ours || from_elsewhere(&head.headers) {
        return desk.login_page(&query, partner, Some(STALE));
    }
    let now = desk.clock.now();
    let name = field("member").trim().to_owned();
    // Names that can't be a member's share one limit.
    let key = MemberId::new(name.as_str()).map_or_else(|_| "?".to_owned(), |m| m.to_string());
    let limited = {
        let mut limits = desk.limits();
        limits.login.take(&key, now).and_then(|()| limits.all_logins.take("all", now))
    };
    if let Err(wait) = limited {
        desk.tally.unauthenticated();
        let seconds = wait / 1000 + 1;
        let problem = format!("Too many attempts. Try again in {seconds} seconds.");
        let mut response = desk.login_page(&query, partner, Some(&problem));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        return response;
    }
    let Some(_kept) = keep(&head.extensions) else { return desk.login_page(&query, partner, Some(STALE)) };
    let Ok(slot) = Arc::clone(&desk.logins).acquire_owned().await else {
        return desk.login_page(&query, partner, Some(STALE));
    };
    let (house, password) = (Arc::clone(&desk.house), field("password").to_owned());
    // The place is held by the work, not by who waits for it: hanging up frees no place for another.
    let member = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        house.log_in(&name, &password)
    })
    .await;
    let Ok(Some(member)) = member else {
        desk.tally.unauthenticated();
        return desk.login_page(&query, partner, Some(WRONG));
    };
    desk.limits().login.forget(&key);
    let Some(csrf) = random() else { return desk.login_page(&query, partner, Some(STALE)) };
    let session = Session { member, request: asked, partner, csrf, until: now.plus_millis(SESSION_MS), changed: false };
    let Some(id) = desk.begin(session) else { return desk.login_page(&query, partner, Some(STALE)) };
    let mut response = see_other("/oauth/consent");
    set_cookie(&mut response, SESSION_COOKIE, &id);
    response
}

async fn consent<H: Linking, R: Recorder>(State(desk): Shared<H, R>, request: Request<Body>) -> Response<Body> {
    let (head, _) = request.into_parts();
    let now = desk.clock.now();
    let found = cookie(&head.headers, SESSION_COOKIE).and_then(|id| {
        let sessions = desk.sessions();
        let s = sessions.get(&id).filter(|s| now < s.until)?;
        Some((s.member.clone(), s.request.clone(), s.partner, s.csrf.clone(), s.changed))
    });
    let Some((member, request, partner, csrf, changed)) = found else {
        return html(StatusCode::FORBIDDEN, page::over(), "");
    };
    let kept = keep(&head.extensions);
    let (Some(_kept), Ok(slot)) = (kept, Arc::clone(&desk.logins).acquire_owned().await) else {
        return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), "");
    };
    let (house, asked) = (Arc::clone(&desk.house), request.clone());
    let worked_out = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        house.choice(&asked)
    });
    let choice = match worked_out.await {
        Ok(Ok(choice)) => choice,
        Ok(Err(error)) => {
            tracing::error!(%error, "what a partner would get could not be worked out");
            return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), "");
        }
        Err(_) => return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), ""),
    };
    let origin = request.origin();
    let asked: Vec<String> = choice.owners.iter().filter(|o| **o != member).map(ToString::to_string).collect();
    let shown = ConsentPage {
        partner,
        home: &choice.home,
        member: member.as_str(),
        asked: &asked,
        back_to: origin,
        csrf: &csrf,
        offers: &choice.offers,
        existing: &choice.existing,
        shown: &choice.shown,
        problem: changed.then_some(CHANGED),
    };
    html(StatusCode::OK, page::consent(&shown), origin)
}

async fn decide<H: Linking, R: Recorder>(State(desk): Shared<H, R>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let over = || html(StatusCode::FORBIDDEN, page::over(), "");
    let Some(form) = form(body, &desk.bodies).await else { return over() };
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let now = desk.clock.now();
    let Some(id) = cookie(&head.headers, SESSION_COOKIE) else { return over() };
    let session = {
        let mut sessions = desk.sessions();
        let ours = sessions
            .get(&id)
            .is_some_and(|s| now < s.until && field("csrf").is_some_and(|given| same_text(given, &s.csrf)));
        // One choice for one login.
        if ours && !from_elsewhere(&head.headers) { sessions.remove(&id) } else { None }
    };
    let (Some(session), Some(_kept)) = (session, keep(&head.extensions)) else { return over() };
    let issuer = desk.house.issuer();
    let url = if field("decision") == Some("link") {
        let agreed = Agreed {
            request: session.request.clone(),
            member: session.member.clone(),
            profile: field("profile").map(str::to_owned),
            sensors: form.iter().filter(|(n, _)| n == "sensor").map(|(_, v)| v.clone()).collect(),
            renew: field("renew").map(str::to_owned),
            shown: field("shown").unwrap_or_default().to_owned(),
        };
        let house = Arc::clone(&desk.house);
        match to_its_end(async move { house.agree(&agreed).await }).await {
            Some(Ok(code)) => oauth::redirect_with_code(&session.request, &code, &issuer),
            Some(Err(AgreeFault::Changed)) => {
                desk.resume(id, Session { changed: true, ..session });
                return see_other("/oauth/consent");
            }
            Some(Err(AgreeFault::Failed(error))) => {
                tracing::error!(%error, "a link was agreed to and could not be made");
                return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), "");
            }
            None => return html(StatusCode::SERVICE_UNAVAILABLE, page::over(), ""),
        }
    } else {
        oauth::denied(&session.request, &issuer)
    };
    let mut response = see_other(&url);
    clear_cookie(&mut response, SESSION_COOKIE);
    clear_cookie(&mut response, LOGIN_COOKIE);
    response
}

async fn token<H: Linking, R: Recorder>(State(desk): Shared<H, R>, request: Request<Body>) -> Response<Body> {
    answer(&desk, request, false).await
}

async fn revoke<H: Linking, R: Recorder>(State(desk): Shared<H, R>, request: Request<Body>) -> Response<Body> {
    answer(&desk, request, true).await
}

async fn answer<H: Linking, R: Recorder>(
    desk: &Desk<H, R>,
    request: Request<Body>,
    revocation: bool,
) -> Response<Body> {
    let refused = match work(desk, request, revocation).await {
        Ok(response) => return response,
        Err((error, basic)) => {
            if error == TokenError::InvalidClient {
                desk.tally.unauthenticated();
            } else {
                desk.tally.rejected();
            }
            (error, basic)
        }
    };
    let (error, basic) = refused;
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = constant(status, error.body());
    let headers = response.headers_mut();
    if error == TokenError::InvalidClient && basic {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"vestibule\""));
    }
    if matches!(error, TokenError::TooMany | TokenError::Unavailable) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

async fn work<H: Linking, R: Recorder>(
    desk: &Desk<H, R>,
    request: Request<Body>,
    revocation: bool,
) -> Result<Response<Body>, (TokenError, bool)> {
    let (head, body) = request.into_parts();
    let authorization = head.headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap_or_default().to_owned());
    let basic = authorization.is_some();
    let is_form = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(';').next().is_some_and(|t| t.trim() == "application/x-www-form-urlencoded"));
    let read = match read(body, &desk.bodies).await {
        Ok(read) => read,
        Err(Unread::TooMany) => return Err((TokenError::TooMany, basic)),
        Err(Unread::TooLarge | Unread::Broken) => return Err((TokenError::InvalidRequest, basic)),
    };
    let text = std::str::from_utf8(&read.bytes).ok().filter(|_| is_form).ok_or((TokenError::InvalidRequest, basic))?;
    let now = desk.clock.now();
    let asked = oauth::token_request(authorization.as_deref(), text, revocation)
        .and_then(|(credentials, request)| desk.house.client(&credentials).map(|()| (credentials, request)));
    let (credentials, request) = match asked {
        Ok(asked) => asked,
        Err(TokenError::InvalidClient) => {
            // Guessing 256 bits is hopeless; this keeps it from being a load.
            let limited = desk.limits().failures.take("all", now).is_err();
            return Err((if limited { TokenError::TooMany } else { TokenError::InvalidClient }, basic));
        }
        Err(error) => return Err((error, basic)),
    };
    // Only here: a stranger who sends slowly takes no place of a partner's.
    let slot = Arc::clone(&desk.in_flight).try_acquire_owned().map_err(|_| (TokenError::TooMany, basic))?;
    let _kept = keep(&head.extensions).ok_or((TokenError::TooMany, basic))?;
    // Each answer is a row in the ledger: a partner that loops must not fill the disk.
    desk.limits().clients.take(&credentials.client, now).map_err(|_| (TokenError::TooMany, basic))?;
    let (house, recorder, clock) = (Arc::clone(&desk.house), Arc::clone(&desk.recorder), Arc::clone(&desk.clock));
    let done = to_its_end(async move {
        let _slot = slot;
        house.token(&credentials, request).await.map(|receipt| match receipt {
            // Made here, so that an answer that nobody waits for any more has its outcome on record.
            Some(receipt) => recorded(receipt, recorder, clock),
            None => constant(StatusCode::OK, b"{}"),
        })
    });
    done.await.unwrap_or(Err(TokenError::Unavailable)).map_err(|error| (error, basic))
}

// ---- Helpers ----

async fn form(body: Body, bodies: &Semaphore) -> Option<Vec<(String, String)>> {
    let read = read(body, bodies).await.ok()?;
    oauth::form(std::str::from_utf8(&read.bytes).ok()?).ok()
}

/// 256 random bits as text; none without randomness.
fn random() -> Option<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.to_owned())
}

fn set_cookie(response: &mut Response<Body>, name: &str, value: &str) {
    let age = SESSION_MS / 1000;
    let text = format!("{name}={value}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn clear_cookie(response: &mut Response<Body>, name: &str) {
    let text = format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Browsers say where a form was sent from; who says nothing is held to the token in the form.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin")
}

/// A page with the headers that keep it from being framed, scripted, cached or told of to others. `back_to` is where its
/// form may lead in the end.
fn html(status: StatusCode, text: String, back_to: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    // Browsers hold a form to every hop of a redirect, and where a partner sends its customer on is its own matter: any
    // https address is allowed, and the loopback one that was registered.
    let back = match back_to {
        "" => String::new(),
        http if http.starts_with("http://") => format!(" https: {http}"),
        _ => " https:".to_owned(),
    };
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{back}; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    harden(headers);
    response
}

fn see_other(url: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::from_str(url) {
        Ok(url) => {
            response.headers_mut().insert(header::LOCATION, url);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    harden(response.headers_mut());
    response
}

fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gate::StateWrite;
    use ledger::Draft;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::*;
    use crate::directives::RecordError;
    use crate::{Door, serve};

    /// A house in which taking a token back takes until it is told to end.
    #[derive(Default)]
    struct Slow {
        begun: Notify,
        end: Notify,
        ended: Notify,
    }

    impl Linking for Slow {
        fn issuer(&self) -> String {
            String::new()
        }

        fn authorize(&self, _: &str) -> Result<(AuthorizeRequest, PartnerWords), AuthorizeFault> {
            Err(AuthorizeFault::Unknown)
        }

        fn log_in(&self, _: &str, _: &str) -> Option<MemberId> {
            None
        }

        fn choice(&self, _: &AuthorizeRequest) -> Result<Choice, String> {
            Err("nobody is linked".into())
        }

        async fn agree(&self, _: &Agreed) -> Result<Token, AgreeFault> {
            Err(AgreeFault::Changed)
        }

        fn client(&self, _: &Credentials) -> Result<(), TokenError> {
            Ok(())
        }

        async fn token(&self, _: &Credentials, _: TokenRequest) -> Result<Option<Receipt>, TokenError> {
            self.begun.notify_one();
            self.end.notified().await;
            self.ended.notify_one();
            Ok(None)
        }
    }

    struct Nowhere;

    impl Recorder for Nowhere {
        async fn record(&self, _: Vec<Draft>, _: Vec<StateWrite>) -> Result<Vec<Receipt>, RecordError> {
            Err(RecordError)
        }

        fn note(&self, _: Draft) {}
    }

    impl Clock for Nowhere {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), work).await.expect("it never came")
    }

    #[tokio::test]
    async fn linking_that_is_worked_on_is_cut_by_no_newcomer_and_ends_whoever_hangs_up() {
        let house = Arc::new(Slow::default());
        let desk = Desk::new(
            Arc::clone(&house),
            Arc::new(Nowhere),
            Arc::new(Nowhere),
            Arc::default(),
            Arc::new(Semaphore::new(0)),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving =
            tokio::spawn(serve(listener, routes(Arc::new(desk)), Door::new("test", 2), std::future::pending()));
        let ask = async || {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let body = "token=t&client_id=c";
            let head = format!(
                "POST /oauth/revoke HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            soon(house.begun.notified()).await;
            stream
        };
        let mut asked = ask().await;
        // There are two places: of three newcomers, the first two are cut again.
        let mut newcomers = Vec::new();
        for _ in 0..3 {
            newcomers.push(TcpStream::connect(at).await.unwrap());
        }
        assert_eq!(soon(newcomers[0].read(&mut [0])).await.unwrap_or(0), 0);
        house.end.notify_one();
        let mut answer = String::new();
        soon(asked.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"), "{answer:?}");
        soon(house.ended.notified()).await;
        // Nobody waits for this one.
        drop(ask().await);
        let mut next = TcpStream::connect(at).await.unwrap();
        next.write_all(b"GET /oauth/style.css HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        soon(next.read_to_end(&mut Vec::new())).await.unwrap();
        house.end.notify_one();
        soon(house.ended.notified()).await;
        serving.abort();
    }
}
