//! A simulated executor: carries out what an agent's session wants done in its member.

use hub_protocol::Key;
use hub_protocol::agent::{Entry, Outcome, State};
use member_agent::manifest::Wanted;
use proto::v1::{self, ApplyResult, RemoveResult};

use crate::bug::Bug;
use crate::check::Violation;
use crate::site::{Around, Site};

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Apply(Entry),
    Withdraw { key: Key, uid: String, epoch: u64, delete: bool },
}

impl Site {
    /// As the executor does: the newest Apply replaces one that waits, and a removal makes waiting ones pointless.
    pub(crate) fn submit(&mut self, job: Job, around: &mut Around<'_>) {
        let Some(agent) = &mut self.agent else { return };
        let key = match &job {
            Job::Apply(entry) => entry.key.clone(),
            Job::Withdraw { key, .. } => key.clone(),
        };
        let jobs = agent.jobs.entry(key).or_default();
        jobs.retain(|(_, waiting)| !matches!(waiting, Job::Apply(_)));
        jobs.push_back((around.now + around.dice.between(1, 300), job));
    }

    pub(crate) fn work(&mut self, around: &mut Around<'_>) -> Result<(), Violation> {
        let now = around.now;
        if now < self.api_down_until {
            return Ok(());
        }
        while let Some(job) = self.due(around) {
            match job {
                Job::Apply(entry) => self.take(entry, around)?,
                Job::Withdraw { key, uid, epoch, delete } => {
                    self.withdraw(&key, &uid, epoch, delete, around)?;
                }
            }
        }
        Ok(())
    }

    /// The next job whose time has come.
    fn due(&mut self, around: &mut Around<'_>) -> Option<Job> {
        let now = around.now;
        let agent = self.agent.as_mut()?;
        agent.jobs.retain(|_, jobs| !jobs.is_empty());
        for jobs in agent.jobs.values_mut() {
            if jobs.front().is_none_or(|(at, _)| *at > now) {
                continue;
            }
            if around.calm || !around.dice.chance(60) {
                return jobs.pop_front().map(|(_, job)| job);
            }
            // The member's API did not take it: again soon.
            if let Some((at, _)) = jobs.front_mut() {
                *at = now + 200;
            }
        }
        None
    }

    /// Applies what is wanted now, and tells the session.
    fn take(&mut self, entry: Entry, around: &mut Around<'_>) -> Result<(), Violation> {
        let clock = self.clock.running(around.now);
        let Some(agent) = &mut self.agent else { return Ok(()) };
        // Since it was asked for, something newer may be wanted, or nothing.
        let Some(entry) = self.disk.entries.get(&entry.key).filter(|held| held.state == State::Held).cloned()
        else {
            return Ok(());
        };
        let stranger = self.member.copies.get(&entry.key).is_some_and(|copy| copy.foreign);
        let result = if stranger || (!around.calm && around.dice.chance(30)) {
            ApplyResult::Refused
        } else {
            ApplyResult::Applied
        };
        agent.session.applied(
            clock,
            v1::Applied {
                key: Some((&entry.key).into()),
                uid: entry.uid.clone(),
                generation: entry.generation,
                epoch: entry.epoch,
                result: result.into(),
                reason: format!("{result:?}"),
                ..v1::Applied::default()
            },
        );
        if result == ApplyResult::Applied { self.apply(entry, around) } else { Ok(()) }
    }

    pub(crate) fn apply(&mut self, mut entry: Entry, around: &mut Around<'_>) -> Result<(), Violation> {
        if around.bug == Bug::LapseIgnored {
            entry.stopped = false;
        }
        self.applied += 1;
        around.checks.applies(around.now, &self.name, self.member.copies.get(&entry.key), &entry)?;
        self.member.apply(around.now, &Wanted::new(entry), around.dice);
        Ok(())
    }

    fn withdraw(
        &mut self,
        key: &Key,
        uid: &str,
        epoch: u64,
        delete: bool,
        around: &mut Around<'_>,
    ) -> Result<(), Violation> {
        let newer = |(_, job): &(u64, Job)| match job {
            Job::Apply(entry) => !delete || entry.uid == uid,
            Job::Withdraw { uid: of, .. } => of == uid,
        };
        if let Some(agent) = &mut self.agent
            && agent.jobs.get(key).is_some_and(|jobs| jobs.iter().any(newer))
        {
            let message = "there is a newer decision about it".into();
            let outcome = Outcome { result: RemoveResult::Refused, message };
            agent.session.withdrawn(key, uid, epoch, outcome);
            return Ok(());
        }
        let any = around.bug == Bug::AnyUidRemoves && delete;
        let found =
            self.member.copies.get(key).map(|copy| copy.uid.clone()).filter(|found| any || found == uid);
        if let Some(found) = found {
            if delete {
                self.delete(key, &found, epoch, around)?;
            } else {
                // Whose it is now takes it away at once: it is in nobody's way afterwards.
                around.checks.releases(around.now, &self.name, key, uid);
                self.member.remove(around.now, key, around.dice);
            }
        }
        let result = if delete { RemoveResult::Removed } else { RemoveResult::Released };
        if let Some(agent) = &mut self.agent {
            agent.session.withdrawn(key, uid, epoch, Outcome { result, message: String::new() });
        }
        Ok(())
    }

    /// A user of the member puts something where a ConfigMap's copy was, and the agent sees it.
    pub(crate) fn usurp(&mut self, around: &mut Around<'_>) {
        let maps: Vec<&Key> = self.member.copies.keys().filter(|key| key.resource == "configmaps").collect();
        if maps.is_empty() {
            return;
        }
        let key = maps[around.dice.index(maps.len())].clone();
        around.checks.note(around.now, || format!("{}: a user of the member replaces {key}", self.name));
        self.member.usurp(&key);
        self.correct(&key, around);
    }

    /// What users of the member put there is gone.
    pub(crate) fn reclaim(&mut self, around: &mut Around<'_>) {
        let strangers = self.member.copies.iter().filter(|(_, copy)| copy.foreign);
        let keys: Vec<Key> = strangers.map(|(key, _)| key.clone()).collect();
        self.member.reclaim();
        for key in keys {
            self.correct(&key, around);
        }
    }

    /// Something that is held was changed by hand: it is applied again.
    fn correct(&mut self, key: &Key, around: &mut Around<'_>) {
        if let Some(entry) = self.disk.entries.get(key).filter(|entry| entry.state == State::Held).cloned() {
            self.submit(Job::Apply(entry), around);
        }
    }

    pub(crate) fn delete(
        &mut self,
        key: &Key,
        uid: &str,
        epoch: u64,
        around: &mut Around<'_>,
    ) -> Result<(), Violation> {
        self.removed += 1;
        around.checks.removes(around.now, &self.name, key, uid, epoch)?;
        self.member.remove(around.now, key, around.dice);
        Ok(())
    }
}
