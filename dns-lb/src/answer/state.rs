//! Facts about a query's client and subject, collected while it is answered.

use super::options::{Facts, Options};
use super::{Context, CookiePolicy};
use crate::client::{Place, Region, Subnet};
use crate::metrics::Transport;

/// Kinds of [`QueryState::subject`]; the rest says which.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// An error.
    Error = 0,
    /// A name that has something to answer.
    Name = 1,
    /// A zone in which the name does not exist.
    Missing = 2,
}

/// Looked up only when an answer depends on it; what it then depends on becomes the scope.
pub(super) struct QueryState<'s> {
    pub(super) context: &'s Context<'s>,
    subnet: Option<Subnet>,
    place: Option<Place>,
    pub(super) facts: Facts,
    pub(super) subject: u64,
}

impl<'s> QueryState<'s> {
    #[inline]
    pub(super) fn new(options: Option<&Options>, context: &'s Context<'s>) -> Self {
        let cookie = options.and_then(|options| options.cookie);
        let checked =
            cookie.and_then(|cookie| cookie.check(&context.snapshot.secrets, context.source, context.now));
        Self {
            context,
            subnet: options.and_then(|options| options.subnet),
            place: None,
            facts: Facts { cookie: checked, ..Facts::default() },
            subject: 0,
        }
    }

    /// Whether the client has to ask again with the cookie that it gets (RFC 7873 section 5.2.3).
    #[inline]
    pub(super) fn bad_cookie(&self) -> bool {
        self.context.cookies == CookiePolicy::Require
            && self.context.transport == Transport::Udp
            && self.facts.cookie.is_some_and(|cookie| !cookie.known)
    }

    /// Begins to look where the client is, if its query says: most of these queries are for names that depend on it, and the table is far away, so that it is
    /// fetched while the name is looked for.
    #[inline]
    pub(super) fn prefetch_place(&mut self) {
        if self.subnet.is_some() {
            self.place();
        }
    }

    /// Where the client is.
    #[inline]
    pub(super) fn place(&mut self) -> Place {
        let Self { context, subnet, .. } = self;
        let look = || context.snapshot.clients.place(subnet.as_ref(), context.source);
        *self.place.get_or_insert_with(look)
    }

    /// The client's region, which the answer now depends on.
    #[inline]
    pub(super) fn region(&mut self) -> Region {
        let place = self.place();
        self.facts.scope = self.facts.scope.max(place.region_scope);
        place.asker.region
    }

    /// The client's key, which the answer now depends on.
    #[inline]
    pub(super) fn key(&mut self) -> u64 {
        let place = self.place();
        self.facts.scope = self.facts.scope.max(place.key_scope);
        place.asker.key
    }

    #[inline]
    pub(super) fn about(&mut self, subject: Subject, which: u32) {
        self.subject = (subject as u64) << 32 | u64::from(which);
    }
}
