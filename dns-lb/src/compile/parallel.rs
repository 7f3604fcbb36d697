//! Compiles nodes on several threads: a cold start needs tens of thousands of independent signatures.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::node::Compiler;
use super::{Node, Table};
use crate::dnssec::Signatures;
use crate::wire::Name;
use crate::zone::Zone;

/// Names that a thread takes at a time: some milliseconds of signing, many times what it costs to start a thread.
const BATCH: usize = 64;
/// Threads at most, whatever the machine has.
const THREADS_MAX: usize = 32;

/// How many threads may work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threads(usize);

impl Threads {
    /// Every core where nothing is served yet, and else all but one: answers go on.
    pub(super) fn new(serving: bool) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self((cores - usize::from(serving)).clamp(1, THREADS_MAX))
    }

    /// The nodes of `names` in `zone`, which has the index `index`; `table` has those that there were. The same, and in the same order, as
    /// one thread makes them.
    pub(super) fn nodes(
        self,
        zone: &Zone,
        index: u32,
        names: &[&Name],
        table: &Table,
        compiler: &mut Compiler<'_>,
    ) -> Vec<Option<Arc<Node>>> {
        let make = |name: &Name, compiler: &mut Compiler<'_>| {
            let old = table.node(name).map(|node| &**node);
            Node::new(zone, index, name, old, compiler).map(Arc::new)
        };
        let batches: Vec<&[&Name]> = names.chunks(BATCH).collect();
        if zone.signing.is_none() || batches.len() < 2 || self.0 < 2 {
            return names.iter().map(|name| make(name, compiler)).collect();
        }
        let next = AtomicUsize::new(0);
        let (clusters, regions, now) = (compiler.clusters, compiler.regions, compiler.signatures.now());
        let work = || {
            let mut signatures = Signatures::default();
            signatures.begin(now);
            let mut own = Compiler::new(clusters, &mut signatures, regions);
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(at) else { return (made, signatures.made()) };
                made.push((at, batch.iter().map(|name| make(name, &mut own)).collect::<Vec<_>>()));
            }
        };
        let (mut made, count) = thread::scope(|scope| {
            // This thread works too, so that nothing is lost where the others cannot be started.
            let named = || thread::Builder::new().name("dns-sign".into());
            let others: Vec<_> = (1..self.0.min(batches.len()))
                .filter_map(|_| named().spawn_scoped(scope, work).ok())
                .collect();
            let mut all = work();
            for (made, count) in others.into_iter().filter_map(|other| other.join().ok()) {
                all.0.extend(made);
                all.1 += count;
            }
            all
        });
        // Of a thread that died: made again here, where a fault is seen.
        made.sort_unstable_by_key(|(at, _)| *at);
        let mut made = made.into_iter().peekable();
        let mut nodes = Vec::with_capacity(names.len());
        for (at, batch) in batches.iter().enumerate() {
            match made.next_if(|(of, _)| *of == at) {
                Some((_, batch)) => nodes.extend(batch),
                None => nodes.extend(batch.iter().map(|name| make(name, compiler))),
            }
        }
        compiler.signatures.count(count);
        nodes
    }
}
