//! Where requests go, as last heard, and what is sent there: prepared once, so that a request costs little.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use exit137_workload::traffic::{Endpoint, Generator, HttpVersion};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::socket::Sockets;

/// The list of those that are there now.
pub struct Endpoints {
    templates: Vec<Template>,
    version: AtomicU64,
    turn: AtomicUsize,
    now: Mutex<Arc<[Arc<Place>]>>,
}

/// One of them.
pub struct Place {
    endpoint: Endpoint,
    pub address: SocketAddr,
    pub sockets: Sockets,
    /// By the request's index.
    pub requests: Vec<Template>,
}

/// A request, ready to be sent.
#[derive(Clone)]
pub struct Template {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub timeout_ns: u64,
}

impl Endpoints {
    /// None yet.
    pub fn new(generator: &Generator) -> Result<Self, String> {
        let template = |request: &exit137_workload::traffic::Request| {
            let about = |part: &str, error: &dyn std::fmt::Display| {
                format!("{} {}: {part}: {error}", request.method, request.path)
            };
            let header = |(name, value): (&String, &String)| {
                let name =
                    HeaderName::try_from(name).map_err(|error| about(&format!("header {name:?}"), &error))?;
                let value = HeaderValue::try_from(value)
                    .map_err(|error| about(&format!("value of {name}"), &error))?;
                Ok::<_, String>((name, value))
            };
            Ok::<_, String>(Template {
                method: request.method.parse().map_err(|error| about("method", &error))?,
                uri: request.path.parse().map_err(|error| about("path", &error))?,
                headers: request.headers.iter().map(header).collect::<Result<_, _>>()?,
                body: Bytes::from(request.body.clone()),
                timeout_ns: request.timeout_ms.saturating_mul(1_000_000),
            })
        };
        let mut templates = generator.requests.iter().map(template).collect::<Result<Vec<_>, _>>()?;
        if templates.is_empty() {
            return Err("the load has no request to send".into());
        }
        if generator.http == HttpVersion::Http2 {
            templates.iter_mut().for_each(Template::for_http2);
        }
        Ok(Self {
            templates,
            version: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            now: Mutex::new(Arc::new([])),
        })
    }

    /// From now on, these.
    pub fn replace(&self, endpoints: Vec<Endpoint>) -> Result<(), String> {
        let (_, before) = self.now();
        let place = |endpoint: Endpoint| match before.iter().find(|place| place.endpoint == endpoint) {
            Some(place) if place.sockets.usable() => Ok(Arc::clone(place)),
            Some(_) | None => self.place(endpoint).map(Arc::new),
        };
        let places = endpoints.into_iter().map(place).collect::<Result<Vec<_>, String>>()?;
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = places.into();
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn place(&self, endpoint: Endpoint) -> Result<Place, String> {
        let address: SocketAddr = endpoint.address.parse().map_err(|_| {
            format!(
                "endpoint {:?} is not an IP address with a port, such as 10.137.0.1:8080",
                endpoint.address
            )
        })?;
        let requests = self.templates.iter().map(|template| template.to(address)).collect();
        Ok(Place { sockets: Sockets::of(endpoint.network.as_deref())?, endpoint, address, requests })
    }

    /// Which list it is.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The list, and which one.
    pub fn now(&self) -> (u64, Arc<[Arc<Place>]>) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version(), Arc::clone(&now))
    }

    /// Whose turn it is.
    pub fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Template {
    /// Names a host, if it does not say which itself.
    fn to(&self, address: SocketAddr) -> Self {
        let mut whole = self.clone();
        let named = whole.uri.authority().is_some();
        if named {
            // HTTP/2 has the address in a field of its own (`:authority`).
            let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
            let host = self.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
            let host = host.unwrap_or_else(|| address.to_string());
            if let Ok(uri) = format!("http://{host}{path}").parse() {
                whole.uri = uri;
            }
            whole.headers.remove(HOST);
        } else if !whole.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::try_from(address.to_string())
        {
            whole.headers.insert(HOST, host);
        }
        whole
    }

    /// What it asks for is absolute there.
    fn for_http2(&mut self) {
        if let Ok(uri) = format!("http://any{}", self.uri).parse() {
            self.uri = uri;
        }
    }
}
