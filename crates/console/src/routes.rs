//! Which request gets which answer: the table of routes, and the short handlers.
//!
//! Not here: who may ask (`guard`), streams (`live`, `stream`), files of the pages (`assets`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, Problem, ServiceName};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{BODY_BYTES_MAX, COMMANDS_MAX, ConsoleConfig, STREAMS_MAX};
use crate::engine::{Answer, Engine};
use crate::event_log::{Ask, MessageQuery};
use crate::guard::Peer;
use crate::guesses::Guesses;
use crate::query::{self, Query};
use crate::reply::{self, Reply};
use crate::wire::{Accepted, ChartQuery, Command};
use crate::{assets, guard, live, stream};

/// How long a client may take to send a command.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Events of one answer when the client names no number, and the most that it gets.
const EVENTS_DEFAULT: usize = 200;
const EVENTS_MAX: usize = 1_000;
/// Log lines of one answer at most.
const LINES_MAX: usize = 10_000;

/// The API as one document.
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// What every request sees.
pub(crate) struct Shared {
    pub(crate) config: ConsoleConfig,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) assets: assets::Assets,
    guesses: Guesses,
    commands: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(crate) fn new(
        config: ConsoleConfig,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        shutdown: watch::Receiver<bool>,
    ) -> Shared {
        let assets = assets::Assets::new(config.web_dir.clone());
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let (guesses, commands) = (Guesses::new(clock), Mutex::default());
        Shared { config, engine, shutdown, streams, assets, guesses, commands }
    }

    async fn command(&self, command: Command) -> Result<Accepted, Problem> {
        self.to_its_end(self.engine.command(command)).await
    }

    /// Runs a command to its end, even when the client goes away meanwhile.
    async fn to_its_end<T: Send + 'static>(&self, running: Answer<T>) -> Result<T, Problem> {
        let (tell, told) = oneshot::channel();
        {
            let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
            while commands.try_join_next().is_some() {}
            if commands.len() >= COMMANDS_MAX {
                return Err(Problem::new("too-busy", "too many commands are under way")
                    .with_next("wait for them"));
            }
            commands.spawn(async move {
                // Nobody to tell: the client is gone.
                let _ = tell.send(running.await);
            });
        }
        told.await.unwrap_or_else(|_| {
            Err(Problem::new("internal", "the command came to an unexpected end")
                .with_next("the engine's log says why; look at the state with `ms ps`"))
        })
    }

    /// The commands under way, for whoever waits for them at the end.
    pub(crate) fn take_commands(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a request came in.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// A Unix socket: trusted.
    Socket,
    /// TCP: checked.
    Network(Peer),
}

#[derive(Clone, Copy)]
enum Route {
    Status,
    Overview,
    Service,
    Why,
    Events,
    Builds,
    Chart,
    Logs,
    FollowLogs,
    EventLogs,
    Topics,
    Topic,
    Messages,
    Groups,
    Group,
    EventLogChange,
    Commands,
    Live,
    Metrics,
    OpenApi,
    Health,
}

/// Every route of the API; the OpenAPI document lists the same ones.
const ROUTES: &[(&str, &str, Route)] = &[
    ("GET", "/api/status", Route::Status),
    ("GET", "/api/overview", Route::Overview),
    ("GET", "/api/services/{name}", Route::Service),
    ("GET", "/api/services/{name}/why", Route::Why),
    ("GET", "/api/events", Route::Events),
    ("GET", "/api/builds", Route::Builds),
    ("GET", "/api/chart", Route::Chart),
    ("GET", "/api/logs", Route::Logs),
    ("GET", "/api/logs/follow", Route::FollowLogs),
    ("GET", "/api/event-log/services", Route::EventLogs),
    ("GET", "/api/event-log/topics", Route::Topics),
    ("GET", "/api/event-log/topics/{name}", Route::Topic),
    ("GET", "/api/event-log/topics/{name}/messages", Route::Messages),
    ("GET", "/api/event-log/groups", Route::Groups),
    ("GET", "/api/event-log/groups/{name}", Route::Group),
    ("POST", "/api/event-log/changes", Route::EventLogChange),
    ("POST", "/api/commands", Route::Commands),
    ("GET", "/api/live", Route::Live),
    ("GET", "/metrics", Route::Metrics),
    ("GET", "/api/openapi.json", Route::OpenApi),
    ("GET", "/healthz", Route::Health),
];

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    trust: Trust,
    request: Request<hyper::body::Incoming>,
) -> Reply {
    match try_answer(shared, trust, request).await {
        Ok(reply) => reply,
        Err(problem) => reply::problem(&problem),
    }
}

async fn try_answer(
    shared: Arc<Shared>,
    trust: Trust,
    request: Request<hyper::body::Incoming>,
) -> Result<Reply, Problem> {
    let path = request.uri().path().to_owned();
    // Says nothing about the engine, so that a probe needs no login.
    if path == "/healthz" && request.method().is_safe() {
        return Ok(reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()));
    }
    if let Trust::Network(peer) = trust {
        let (guesses, from) = (&shared.guesses, peer.address());
        if let Some(left) = guesses.refused(from) {
            return Ok(reply::too_many_guesses(left));
        }
        let given = |right| guesses.given(from, right);
        guard::check_tcp(&shared.config, request.method(), request.headers(), given)?;
        if shared.config.credentials.is_none() && !request.method().is_safe() {
            peer.check_own().await?;
        }
    }
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => method,
    };
    let mut allowed = None;
    for (wanted, template, route) in ROUTES {
        if let Some(parameter) = matches(template, &path) {
            if method.as_str() == *wanted {
                let parameter = query::decode(parameter)?;
                return handle(shared, *route, &parameter, request).await;
            }
            allowed = Some(*wanted);
        }
    }
    if let Some(wanted) = allowed {
        return Err(Problem::new("wrong-method", format!("{path} does not take {method}"))
            .with_next(format!("use {wanted}")));
    }
    if path == "/api" || path.starts_with("/api/") {
        return Err(Problem::new("not-found", format!("there is no {path} in this API"))
            .with_next("GET /api/openapi.json lists what there is"));
    }
    if method != Method::GET {
        return Err(Problem::new("wrong-method", format!("{path} does not take {method}"))
            .with_next("use GET"));
    }
    Ok(shared.assets.reply(&path, request.headers().get(header::IF_NONE_MATCH)))
}

/// What stands for `{…}` in `template`, empty when it has none; `None` when `path` differs.
fn matches<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((prefix, rest)) = template.split_once('{') else {
        return (template == path).then_some("");
    };
    let suffix = rest.split_once('}').map_or("", |(_, suffix)| suffix);
    let parameter = path.strip_prefix(prefix)?.strip_suffix(suffix)?;
    (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
}

fn no_service(name: &str) -> Problem {
    Problem::new("not-found", format!("there is no service `{name}`"))
        .with_next("`ms ps` lists the services")
}

async fn handle(
    shared: Arc<Shared>,
    route: Route,
    parameter: &str,
    request: Request<hyper::body::Incoming>,
) -> Result<Reply, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let engine = &shared.engine;
    match route {
        Route::Status => query.only(&[]).map(|()| reply::json(&engine.status())),
        Route::Overview => query.only(&[]).map(|()| reply::json(&engine.overview())),
        Route::Service => {
            query.only(&[])?;
            let detail = engine.service(parameter).ok_or_else(|| no_service(parameter))?;
            Ok(reply::json(&detail))
        }
        Route::Why => {
            query.only(&[])?;
            let why = engine.why(parameter).ok_or_else(|| no_service(parameter))?;
            Ok(reply::json(&why))
        }
        Route::Events => {
            query.only(&["after", "limit"])?;
            let limit = query.number("limit")?.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX);
            Ok(reply::json(&engine.events(query.number("after")?.unwrap_or(0), limit)))
        }
        Route::Builds => {
            query.only(&["after", "limit"])?;
            let limit = query.number("limit")?.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX);
            Ok(reply::json(&engine.builds(query.number("after")?.unwrap_or(0), limit)))
        }
        Route::Chart => engine.chart(&chart_query(&query)?).map(|chart| reply::json(&chart)),
        Route::Logs => {
            let mut query = query::log_query(&query)?;
            query.limit = query.limit.map(|limit| limit.min(LINES_MAX));
            engine.logs(query).await.map(|page| reply::json(&page))
        }
        Route::FollowLogs => {
            let mut query = query::log_query(&query)?;
            query.limit = query.limit.map(|limit| limit.min(LINES_MAX));
            stream::follow(&shared, query).await
        }
        Route::Commands => {
            query.only(&[])?;
            let command = read_body(request).await?;
            shared.command(command).await.map(|accepted| reply::json(&accepted))
        }
        Route::EventLogs => ask_log(&shared, &query, Ask::Services).await,
        Route::Topics => ask_log(&shared, &query, Ask::Topics).await,
        Route::Topic => ask_log(&shared, &query, Ask::Topic(parameter.to_owned())).await,
        Route::Messages => {
            let ask = Ask::Messages(parameter.to_owned(), MessageQuery::read(&query)?);
            let answer = engine.event_log(query.get("service").map(str::to_owned), ask).await;
            answer.map(|answer| reply::json(&answer))
        }
        Route::Groups => ask_log(&shared, &query, Ask::Groups).await,
        Route::Group => ask_log(&shared, &query, Ask::Group(parameter.to_owned())).await,
        Route::EventLogChange => {
            query.only(&["service"])?;
            let change = Ask::Change(read_body(request).await?);
            let changing = engine.event_log(query.get("service").map(str::to_owned), change);
            shared.to_its_end(changing).await.map(|answer| reply::json(&answer))
        }
        Route::Live => live::reply(&shared, &query, request.headers()).await,
        Route::Metrics => {
            let text = Bytes::from(engine.prometheus());
            Ok(reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
        }
        Route::OpenApi => Ok(reply::bytes(StatusCode::OK, "application/json", OPENAPI.into())),
        Route::Health => Ok(reply::empty(StatusCode::OK)),
    }
}

async fn ask_log(shared: &Shared, query: &Query, ask: Ask) -> Result<Reply, Problem> {
    query.only(&["service"])?;
    let answer = shared.engine.event_log(query.get("service").map(str::to_owned), ask).await;
    answer.map(|answer| reply::json(&answer))
}

pub(crate) fn chart_query(query: &Query) -> Result<ChartQuery, Problem> {
    query.only(&["service", "chart", "seconds"])?;
    let service = query.get("service").map(str::parse::<ServiceName>).transpose();
    let service = service.map_err(|error| Problem::new("bad-query", error.to_string()))?;
    let chart = query.get("chart").ok_or_else(|| {
        Problem::new("bad-query", "which chart is not said")
            .with_next("add `chart=traffic`, `latency`, `cpu` or `memory`")
    })?;
    Ok(ChartQuery { service, chart: chart.to_owned(), seconds: query.number("seconds")? })
}

async fn read_body<T: DeserializeOwned>(
    request: Request<hyper::body::Incoming>,
) -> Result<T, Problem> {
    guard::check_json(request.headers())?;
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let collected = tokio::time::timeout(BODY_TIMEOUT, body.collect()).await;
    let collected = collected.map_err(|_| {
        Problem::new("too-slow", "the command took too long to arrive").with_next("send it again")
    })?;
    let body = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Problem::new("too-large", "the command is larger than 4 MiB")
            .with_next("keep data out of the Compose file"),
        None => Problem::new("bad-command", "the command did not arrive whole")
            .with_cause(error.to_string())
            .with_next("send it again"),
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        Problem::new("bad-command", "the body is not a command")
            .with_cause(error.to_string())
            .with_next("GET /api/openapi.json describes the commands")
    })
}

/// The routes as the OpenAPI document has to list them.
#[cfg(test)]
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|(method, template, _)| (*method, *template))
}
