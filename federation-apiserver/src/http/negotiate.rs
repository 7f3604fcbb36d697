//! Content negotiation: what the client accepts, and what it sent.

use apimachinery::ApiError;
use http::{HeaderMap, header};

/// JSON.
pub(crate) const JSON: &str = "application/json";
/// YAML.
pub(crate) const YAML: &str = "application/yaml";
/// Kubernetes' protobuf envelope.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Configurations that are applied.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf envelope.
    Protobuf,
}

/// What is written: the object itself or a view of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The object.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or a list of them.
    Metadata,
}

/// The answer's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// How.
    pub encoding: Encoding,
    /// What.
    pub view: View,
    /// The view is asked for as one of `meta.k8s.io/v1beta1`, which differs in its name only.
    pub beta: bool,
    /// Indented, for people.
    pub pretty: bool,
    /// What stands beside the cells of a Table's row.
    pub include: Include,
}

/// `includeObject` of TableOptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    Nothing,
    /// PartialObjectMetadata.
    #[default]
    Metadata,
    /// The object.
    Object,
}

impl Include {
    /// Reads the query parameter.
    ///
    /// # Errors
    /// When it is none of the three, in Kubernetes' words.
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, ApiError> {
        match value {
            Some("None") => Ok(Self::Nothing),
            Some("Object") => Ok(Self::Object),
            None | Some("Metadata") => Ok(Self::Metadata),
            Some(other) => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

impl Format {
    /// Compact JSON of the object itself.
    pub(crate) const JSON: Self = Self {
        encoding: Encoding::Json,
        view: View::Object,
        beta: false,
        pretty: false,
        include: Include::Metadata,
    };

    /// The Content-Type header of an answer; `;stream=watch` marks a watch in another form than plain JSON.
    pub(crate) fn content_type(self, watch: bool) -> &'static str {
        match (self.encoding, self.view, watch) {
            (Encoding::Protobuf, _, true) => "application/vnd.kubernetes.protobuf;stream=watch",
            (Encoding::Protobuf, _, false) => PROTOBUF,
            (Encoding::Yaml, ..) => YAML,
            (Encoding::Json, ..) => JSON,
        }
    }
}

/// One element of an Accept header.
#[derive(Clone, Debug)]
pub(crate) struct MediaRange {
    /// `application/json`, `*/*`.
    pub kind: String,
    /// Parameters other than q, in order.
    pub parameters: Vec<(String, String)>,
    quality: u32,
}

impl MediaRange {
    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses all Accept headers, best first; equal ones stay in order.
pub(crate) fn accept(headers: &HeaderMap) -> Vec<MediaRange> {
    let mut ranges: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(media_range)
        .collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.quality));
    ranges
}

fn media_range(text: &str) -> Option<MediaRange> {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let mut range = MediaRange { kind, parameters: Vec::new(), quality: 1000 };
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        if name.trim() == "q" {
            range.quality = value.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
        } else {
            range.parameters.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    range.kind.contains('/').then_some(range)
}

/// Which forms a kind can be written in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    /// Built-in kinds have a protobuf form.
    pub protobuf: bool,
    /// Whether a Table may be asked for: not of a question that is answered.
    pub table: bool,
    /// Whether it is a watch, whose frames are JSON or protobuf.
    pub watch: bool,
}

impl Offered {
    /// Every form: of errors, and of documents.
    pub(crate) const ALL: Self = Self { protobuf: true, table: true, watch: false };
}

/// The media types that are named where none of those that are accepted is known. Custom kinds have the same ones, for parts of theirs.
const KNOWN: [&str; 3] = [JSON, YAML, PROTOBUF];
/// The same of the frames of a watch, where YAML is known but has no frames.
const FRAMED: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Chooses the form of an answer.
pub(crate) fn choose(
    headers: &HeaderMap,
    pretty: Option<&str>,
    offered: Offered,
) -> Result<Format, ApiError> {
    let pretty = pretty.map_or_else(|| is_for_people(headers), |value| value != "0" && value != "false");
    let mut asked = headers.get_all(header::ACCEPT).iter();
    let first = asked.next();
    // Nothing, or JSON and nothing else: what most clients say.
    if first.is_none_or(|first| asked.next().is_none() && (*first == JSON || *first == "*/*")) {
        return Ok(Format { pretty, ..Format::JSON });
    }
    let ranges = accept(headers);
    let silent = headers.get_all(header::ACCEPT).iter().all(|value| value.as_bytes().trim_ascii().is_empty());
    if silent {
        return Ok(Format { pretty, ..Format::JSON });
    }
    for range in &ranges {
        // kube-apiserver knows no other stream, and minds that one nowhere.
        if range.parameter("stream").is_some_and(|stream| stream != "watch") {
            continue;
        }
        let view = match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (None, ..) => View::Object,
            (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) if offered.table => View::Table,
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1" | "v1beta1"),
            ) => View::Metadata,
            _ => continue,
        };
        let encoding = match range.kind.as_str() {
            JSON | "*/*" => Encoding::Json,
            // Built-in kinds are behind a router that knows no such range.
            "application/*" if !offered.protobuf => Encoding::Json,
            // kube-apiserver looks no further: it takes YAML, and then has no frames of it.
            YAML if offered.watch => return Err(ApiError::not_acceptable(&FRAMED)),
            YAML => Encoding::Yaml,
            // Metadata has a protobuf form for every kind; a Table's is not worth having: kubectl asks for JSON.
            PROTOBUF if view == View::Metadata || (view == View::Object && offered.protobuf) => {
                Encoding::Protobuf
            }
            _ => continue,
        };
        let beta = view != View::Object && range.parameter("v") == Some("v1beta1");
        return Ok(Format { encoding, view, beta, pretty, include: Include::Metadata });
    }
    Err(ApiError::not_acceptable(&KNOWN))
}

/// Refuses the metadata of one object where a list is asked for, and that of a list where it is one object. `what` is the type that Go's
/// message tells.
///
/// # Errors
/// 406, in Kubernetes' words.
pub(crate) fn check_metadata_view(headers: &HeaderMap, what: &str, is_list: bool) -> Result<(), ApiError> {
    const ONE: &str = "PartialObjectMetadata";
    const LIST: &str = "PartialObjectMetadataList";
    let ranges = accept(headers);
    let asked =
        ranges.iter().find_map(|range| range.parameter("as").filter(|name| [ONE, LIST].contains(name)));
    let message = match asked {
        Some(ONE) if is_list => {
            format!("you requested {ONE}, but the requested object is a list (*{what}List)")
        }
        Some(LIST) if !is_list => {
            format!("you requested {LIST}, but the requested object is not a list (*{what})")
        }
        _ => return Ok(()),
    };
    Err(ApiError { message, ..ApiError::not_acceptable(&[]) })
}

/// Browsers and curl get indented JSON, as kube-apiserver gives them.
fn is_for_people(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

/// The media type of a request body, without parameters; none if nothing is said.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("?").trim();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Parameters without a type, or without a value, are no media type, and nobody takes them.
    let mut parameters = value.split(';').skip(1).map(str::trim).filter(|parameter| !parameter.is_empty());
    let kind = if parameters.all(|parameter| parameter.contains('=')) { kind } else { "?".to_owned() };
    (!value.is_empty()).then_some(kind)
}

/// Whether gzip may be used.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().is_some_and(|coding| coding.trim() == "gzip"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &'static str, protobuf: bool, expect: Option<(Encoding, View)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        let found = choose(&headers, None, Offered { protobuf, ..Offered::ALL });
        assert_eq!(found.ok().map(|format| (format.encoding, format.view)), expect, "{accept}");
    }

    #[test]
    fn a_watch_has_frames_of_json_and_protobuf() {
        let told = |accept: &'static str, watch: bool| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            choose(&headers, None, Offered { watch, ..Offered::ALL }).map(|format| format.encoding).ok()
        };
        assert_eq!(told("application/json;stream=watch", true), Some(Encoding::Json));
        assert_eq!(told("application/vnd.kubernetes.protobuf;stream=watch", true), Some(Encoding::Protobuf));
        assert_eq!(told("application/json;stream=other,application/json", true), Some(Encoding::Json));
        for accept in ["application/yaml", "application/json;stream=other"] {
            assert_eq!(told(accept, true), None, "{accept}");
        }
        assert_eq!(told("application/json;stream=watch", false), Some(Encoding::Json));
    }

    #[test]
    fn what_is_known_is_named() {
        let told = |accept: &'static str, protobuf: bool| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            choose(&headers, None, Offered { watch: true, protobuf, ..Offered::ALL }).unwrap_err().message
        };
        for protobuf in [true, false] {
            let known = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
            assert_eq!(told("text/html", protobuf), known);
            let framed = "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
            assert_eq!(told("application/yaml", protobuf), framed);
        }
    }

    #[test]
    fn the_first_acceptable_form_is_taken() {
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            true,
            Some((Encoding::Json, View::Table)),
        );
        check("application/yaml;as=Table;v=v1;g=meta.k8s.io", true, Some((Encoding::Yaml, View::Table)));
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            true,
            Some((Encoding::Protobuf, View::Object)),
        );
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            false,
            Some((Encoding::Json, View::Object)),
        );
        check("application/vnd.kubernetes.protobuf", false, None);
        check("*/*", true, Some((Encoding::Json, View::Object)));
        check("application/*", true, None);
        check("application/*", false, Some((Encoding::Json, View::Object)));
        check("text/html", true, None);
    }
}
