//! Functions and methods: their signatures, and what they do.

mod authority;
mod convert;
mod format;
mod lists;
mod net;
mod numbers;
mod quantity;
mod semver;
mod strings;
mod time;

use crate::{Type, Value, access, error::EvalError};

pub(crate) use convert::text;
pub(crate) use lists::{sort_by, sorting_cost};
pub(crate) use numbers::{arithmetic, overflow};
pub use semver::Semver;
pub(crate) use strings::{SEARCHES, compile, pattern, search};
pub use time::parse_timestamp;

type Outcome = Result<Value, EvalError>;

/// Signatures: for a method its target and a dot, the arguments, and behind `>` the result. Letters: b(ool), i(nt), u(int),
/// d(ouble), s(tring), y (bytes), t(imestamp), r (duration), l(ist), L (list of strings), m(ap), o(ptional), q(uantity), U(RL), p (IP),
/// c(IDR), f(ormat), T(ype), v (semantic version), A(uthorizer), P(ath), G(roup), R(esource), D(ecision), x (anything).
const TABLE: &[(&str, &[&str])] = &[
    // the language itself
    ("size", &["s>i", "y>i", "l>i", "m>i", "s.>i", "y.>i", "l.>i", "m.>i"]),
    ("type", &["x>T"]),
    ("dyn", &["x>x"]),
    ("bool", &["b>b", "s>b"]),
    ("int", &["i>i", "u>i", "d>i", "s>i", "t>i", "r>i"]),
    ("uint", &["i>u", "u>u", "d>u", "s>u"]),
    ("double", &["i>d", "u>d", "d>d", "s>d"]),
    ("string", &["b>s", "i>s", "u>s", "d>s", "s>s", "y>s", "t>s", "r>s", "p>s", "c>s", "q>s"]),
    ("bytes", &["s>y", "y>y"]),
    ("timestamp", &["s>t", "i>t", "t>t"]),
    ("duration", &["s>r", "r>r"]),
    ("contains", &["s.s>b"]),
    ("startsWith", &["s.s>b"]),
    ("endsWith", &["s.s>b"]),
    ("matches", &["s.s>b", "ss>b"]),
    // times
    ("getFullYear", &["t.>i", "t.s>i"]),
    ("getMonth", &["t.>i", "t.s>i"]),
    ("getDayOfYear", &["t.>i", "t.s>i"]),
    ("getDayOfMonth", &["t.>i", "t.s>i"]),
    ("getDate", &["t.>i", "t.s>i"]),
    ("getDayOfWeek", &["t.>i", "t.s>i"]),
    ("getHours", &["t.>i", "t.s>i", "r.>i"]),
    ("getMinutes", &["t.>i", "t.s>i", "r.>i"]),
    ("getSeconds", &["t.>i", "t.s>i", "r.>i"]),
    ("getMilliseconds", &["t.>i", "t.s>i", "r.>i"]),
    // strings
    ("charAt", &["s.i>s"]),
    ("indexOf", &["s.s>i", "s.si>i", "l.x>i"]),
    ("lastIndexOf", &["s.s>i", "s.si>i", "l.x>i"]),
    ("lowerAscii", &["s.>s"]),
    ("upperAscii", &["s.>s"]),
    ("trim", &["s.>s"]),
    ("replace", &["s.ss>s", "s.ssi>s"]),
    ("split", &["s.s>L", "s.si>L"]),
    ("substring", &["s.i>s", "s.ii>s"]),
    ("join", &["L.>s", "L.s>s"]),
    ("format", &["s.l>s"]),
    ("strings.quote", &["s>s"]),
    ("find", &["s.s>s"]),
    ("findAll", &["s.s>L", "s.si>L"]),
    ("base64.encode", &["y>s"]),
    ("base64.decode", &["s>y"]),
    // lists
    ("isSorted", &["l.>b"]),
    ("sum", &["l.>x"]),
    ("min", &["l.>x"]),
    ("max", &["l.>x"]),
    ("slice", &["l.ii>l"]),
    ("flatten", &["l.>l", "l.i>l"]),
    ("reverse", &["l.>l", "s.>s"]),
    ("distinct", &["l.>l"]),
    ("sort", &["l.>l"]),
    ("lists.range", &["i>l"]),
    ("first", &["l.>o"]),
    ("last", &["l.>o"]),
    ("includes", &["l.x>b"]),
    ("sets.contains", &["ll>b"]),
    ("sets.equivalent", &["ll>b"]),
    ("sets.intersects", &["ll>b"]),
    // numbers
    ("math.greatest", &["x>x", "xx>x", "xxx>x", "xxxx>x"]),
    ("math.least", &["x>x", "xx>x", "xxx>x", "xxxx>x"]),
    ("math.abs", &["i>i", "u>u", "d>d"]),
    ("math.sign", &["i>i", "u>u", "d>d"]),
    ("math.ceil", &["d>d"]),
    ("math.floor", &["d>d"]),
    ("math.round", &["d>d"]),
    ("math.trunc", &["d>d"]),
    ("math.isNaN", &["d>b"]),
    ("math.isInf", &["d>b"]),
    ("math.isFinite", &["d>b"]),
    // optional values
    ("optional.of", &["x>o"]),
    ("optional.none", &[">o"]),
    ("optional.ofNonZeroValue", &["x>o"]),
    ("hasValue", &["o.>b"]),
    ("value", &["o.>x"]),
    ("orValue", &["o.x>x"]),
    ("or", &["o.o>o"]),
    // URLs
    ("url", &["s>U"]),
    ("isURL", &["s>b"]),
    ("getScheme", &["U.>s"]),
    ("getHost", &["U.>s"]),
    ("getHostname", &["U.>s"]),
    ("getPort", &["U.>s"]),
    ("getEscapedPath", &["U.>s"]),
    ("getQuery", &["U.>m"]),
    // addresses
    ("ip", &["s>p", "c.>p"]),
    ("isIP", &["s>b"]),
    ("ip.isCanonical", &["s>b"]),
    ("family", &["p.>i"]),
    ("isUnspecified", &["p.>b"]),
    ("isLoopback", &["p.>b"]),
    ("isLinkLocalMulticast", &["p.>b"]),
    ("isLinkLocalUnicast", &["p.>b"]),
    ("isGlobalUnicast", &["p.>b"]),
    ("cidr", &["s>c"]),
    ("isCIDR", &["s>b"]),
    ("containsIP", &["c.p>b", "c.s>b"]),
    ("containsCIDR", &["c.c>b", "c.s>b"]),
    ("masked", &["c.>c"]),
    ("prefixLength", &["c.>i"]),
    // quantities
    ("quantity", &["s>q"]),
    ("isQuantity", &["s>b"]),
    ("sign", &["q.>i"]),
    ("isInteger", &["q.>b"]),
    ("asInteger", &["q.>i"]),
    ("asApproximateFloat", &["q.>d"]),
    ("add", &["q.q>q", "q.i>q"]),
    ("sub", &["q.q>q", "q.i>q"]),
    ("isLessThan", &["q.q>b", "v.v>b"]),
    ("isGreaterThan", &["q.q>b", "v.v>b"]),
    ("compareTo", &["q.q>i", "v.v>i"]),
    // semantic versions
    ("semver", &["s>v", "sb>v"]),
    ("isSemver", &["s>b", "sb>b"]),
    ("major", &["v.>i"]),
    ("minor", &["v.>i"]),
    ("patch", &["v.>i"]),
    // JSON patches
    ("jsonpatch.escapeKey", &["s>s"]),
    // the authorizer
    ("path", &["A.s>P"]),
    ("group", &["A.s>G"]),
    ("serviceAccount", &["A.ss>A"]),
    ("resource", &["G.s>R"]),
    ("subresource", &["R.s>R"]),
    ("namespace", &["R.s>R"]),
    ("name", &["R.s>R"]),
    ("fieldSelector", &["R.s>R"]),
    ("labelSelector", &["R.s>R"]),
    ("check", &["P.s>D", "R.s>D"]),
    ("allowed", &["D.>b"]),
    ("reason", &["D.>s"]),
    ("errored", &["D.>b"]),
    ("error", &["D.>s"]),
    // named formats
    ("format.named", &["s>o"]),
    ("format.dns1123Label", &[">f"]),
    ("format.dns1123Subdomain", &[">f"]),
    ("format.dns1035Label", &[">f"]),
    ("format.qualifiedName", &[">f"]),
    ("format.dns1123LabelPrefix", &[">f"]),
    ("format.dns1123SubdomainPrefix", &[">f"]),
    ("format.dns1035LabelPrefix", &[">f"]),
    ("format.labelValue", &[">f"]),
    ("format.uri", &[">f"]),
    ("format.uuid", &[">f"]),
    ("format.byte", &[">f"]),
    ("format.date", &[">f"]),
    ("format.datetime", &[">f"]),
    ("validate", &["f.s>o"]),
];

/// What a function returns for arguments of these types. The target of a method comes first.
pub(crate) enum Resolved {
    NoOverload,
    Result(Type),
}

/// Whether there is such a function.
pub(crate) fn is_known(name: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == name)
}

/// Looks for an overload that takes these arguments.
pub(crate) fn resolve(name: &str, method: bool, arguments: &[Type]) -> Resolved {
    let found = TABLE.iter().find(|(known, _)| *known == name);
    let signatures = found.map(|(_, signatures)| *signatures).unwrap_or_default();
    let mut results = signatures.iter().filter_map(|signature| {
        let (left, result) = signature.split_once('>')?;
        let (target, rest) = left.split_once('.').map_or((None, left), |(target, rest)| (Some(target), rest));
        if target.is_some() != method {
            return None;
        }
        let letters: Vec<_> = target.unwrap_or_default().chars().chain(rest.chars()).collect();
        let fits = letters.len() == arguments.len()
            && letters.iter().zip(arguments).all(|(letter, argument)| argument.fits(&type_of(*letter)));
        fits.then(|| result.chars().next().map_or(Type::Dyn, type_of))
    });
    let Some(first) = results.next() else {
        return Resolved::NoOverload;
    };
    // Methods of lists keep the type of the items.
    let first = match (&first, arguments.first()) {
        (Type::List(_), Some(Type::List(item))) if !matches!(name, "flatten") => Type::List(item.clone()),
        _ => first,
    };
    Resolved::Result(results.fold(first, Type::join))
}

fn type_of(letter: char) -> Type {
    let anything = || Box::new(Type::Dyn);
    match letter {
        'b' => Type::Bool,
        'i' => Type::Int,
        'u' => Type::Uint,
        'd' => Type::Double,
        's' => Type::String,
        'y' => Type::Bytes,
        't' => Type::Timestamp,
        'r' => Type::Duration,
        'l' => Type::List(anything()),
        'L' => Type::List(Box::new(Type::String)),
        'm' => Type::Map(anything(), anything()),
        'o' => Type::Optional(anything()),
        'q' => Type::Opaque("kubernetes.Quantity"),
        'U' => Type::Opaque("kubernetes.URL"),
        'p' => Type::Opaque("net.IP"),
        'c' => Type::Opaque("net.CIDR"),
        'f' => Type::Opaque("kubernetes.NamedFormat"),
        'T' => Type::Type,
        'v' => Type::Opaque("kubernetes.Semver"),
        'A' => Type::Opaque(access::AUTHORIZER),
        'P' => Type::Opaque(access::PATH),
        'G' => Type::Opaque(access::GROUP),
        'R' => Type::Opaque(access::RESOURCE),
        'D' => Type::Opaque(access::DECISION),
        _ => Type::Dyn,
    }
}

/// What a function does beside what the lengths of its arguments tell: it makes items, goes through all that is in them, or compares each of some
/// with each. No more is counted than there is left.
pub(crate) fn hidden_cost(name: &str, values: &[Value], left: u64) -> u64 {
    let extent = |value: &Value| value.extent(left);
    match (name, values) {
        ("lists.range", [Value::Int(count)]) => u64::try_from(*count).unwrap_or_default(),
        ("distinct", [list @ Value::List(items)]) => lists::compared(items).saturating_mul(extent(list)),
        ("sort", [Value::List(items)]) => sorting_cost(items.iter()),
        ("isSorted" | "min" | "max" | "sum" | "join" | "flatten", [list @ Value::List(_), ..]) => {
            extent(list)
        }
        ("math.greatest" | "math.least", [list @ Value::List(_)]) => extent(list),
        ("format", [Value::String(_), list]) => extent(list),
        ("indexOf" | "lastIndexOf" | "includes", [list @ Value::List(items), wanted]) => {
            extent(list).min(extent(wanted).saturating_mul(items.len() as u64))
        }
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [one @ Value::List(items), other]) => {
            let (length, others) = (items.len() as u64, other.weight());
            length.saturating_mul(extent(other)).min(others.saturating_mul(extent(one)))
        }
        _ => 0,
    }
}

/// Calls a function; the target of a method is the first of the values.
pub(crate) fn call(name: &str, method: bool, values: &[Value]) -> Outcome {
    let families = [
        convert::call,
        strings::call,
        lists::call,
        numbers::call,
        time::call,
        net::call,
        quantity::call,
        semver::call,
        authority::call,
    ];
    for family in families {
        if let Some(outcome) = family(name, method, values) {
            return outcome;
        }
    }
    Err(EvalError::NoSuchOverload)
}
