//! The gateway as a whole: started, reloaded and drained from any thread.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::admin::{self, Admin};
use super::bind::{self, Bound, Listening, Own, SocketFile};
use super::config::settings::{Bind, Settings};
use super::gate::Gate;
use super::log::{self, Writer};
use super::plan::{Blueprint, Plan, PlanError};
use super::running::Running;
use super::worker::{Command, Thread, deal};

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway;

/// A hold on a gateway that runs; the last one that goes ends it at once.
#[derive(Debug)]
pub struct Handle {
    state: Mutex<State>,
    running: Arc<Running>,
    draining: Arc<AtomicBool>,
    writer: Writer,
}

#[derive(Debug)]
struct State {
    threads: Vec<Thread>,
    plans: Vec<Arc<Plan>>,
    listening: Vec<(Bind, String)>,
    /// Where sockets have been open at the last look: a worker takes its time to leave.
    open: Vec<(SocketAddr, Weak<()>)>,
    /// Of those who listen on Unix sockets.
    files: Vec<SocketFile>,
    admin: Option<String>,
}

impl State {
    /// Sockets are open there from now on.
    fn opened(&mut self, bound: &mut [Bound]) {
        let files = bound.iter_mut().filter_map(|one| one.file.take());
        self.files.extend(files);
        self.listening.extend(bound.iter().map(Bound::place));
        let places = bound.iter().filter_map(|one| {
            let address = one.address.parse().ok()?;
            Some((address, Arc::downgrade(&one.hold)))
        });
        self.open.extend(places);
    }
}

impl Gateway {
    /// Binds, reads certificates, starts the threads. Where anything fails nothing is left.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn start(settings: Settings) -> Result<Handle, PlanError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = settings.server.workers.unwrap_or_else(cores).max(1);
        let writer = Writer::start()?;
        let blueprint = Blueprint::new(settings, writer.log())?;
        let plans = plans(&blueprint, workers, &[])?;
        let settings = &blueprint.settings;
        let admin = settings.admin.as_ref().map(|admin| {
            let bind = Bind::Tcp {
                host: admin.host.clone(),
                port: admin.port,
                nth: 0,
            };
            let bound = bind::bind_all([&bind].into_iter(), 1, Own::default());
            bound.map_err(|error| match error {
                PlanError::Bind(address, error) => PlanError::Admin(address, error),
                error => error,
            })
        });
        let admin = admin.transpose()?.and_then(|mut bound| bound.pop());
        let binds = settings.server.listeners.iter().map(|one| &one.bind);
        let mut bound = bind::bind_all(binds, workers, Own::default())?;
        // The last thing that can fail, so that no empty one is left behind.
        writer.configure(log::open(settings.access_log.as_ref())?);
        let mut state = State {
            threads: Vec::with_capacity(workers),
            plans,
            listening: Vec::new(),
            open: Vec::new(),
            files: Vec::new(),
            admin: admin.as_ref().map(|bound| bound.address.clone()),
        };
        state.opened(&mut bound);
        blueprint.bound(&state.listening);
        // Where a thread cannot start, it goes and takes the others and the sockets along.
        let handle = Handle {
            state: Mutex::new(state),
            running: Arc::default(),
            draining: Arc::default(),
            writer,
        };
        handle.launch(bound, admin, &blueprint)?;
        Ok(handle)
    }
}

/// Starts a gateway and waits until it has been drained.
///
/// # Errors
/// Where it cannot start; see [`PlanError`].
pub fn run(settings: Settings, on_ready: impl FnOnce(&Arc<Handle>)) -> Result<(), PlanError> {
    let handle = Arc::new(Gateway::start(settings)?);
    on_ready(&handle);
    handle.join();
    Ok(())
}

fn plans(
    blueprint: &Arc<Blueprint>,
    workers: usize,
    before: &[Arc<Plan>],
) -> Result<Vec<Arc<Plan>>, PlanError> {
    let plan = |number: usize| {
        let before = before.get(number).map(Arc::as_ref);
        Plan::new(blueprint, number, workers, before)
    };
    (0..workers).map(plan).collect()
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the threads.
    fn launch(
        &self,
        bound: Vec<Bound>,
        admin: Option<Bound>,
        blueprint: &Blueprint,
    ) -> io::Result<()> {
        let State { threads, plans, .. } = &mut *self.lock();
        let gate = Arc::new(Gate::default());
        for (number, plan) in plans.iter().enumerate() {
            let (plan, gate) = (Arc::clone(plan), Arc::clone(&gate));
            threads.push(Thread::start(number, plan, gate, self.running.begin())?);
        }
        let shown = Admin {
            workers: threads.iter().map(|one| Arc::clone(&one.worker)).collect(),
            log: self.writer.log(),
            draining: Arc::clone(&self.draining),
        };
        let admin = admin.and_then(|mut bound| bound.sockets.pop());
        if let Some(Listening::Tcp(socket)) = admin {
            admin::start(socket, shown, &self.running)?;
        }
        for one in bound {
            deal(threads, one, blueprint);
        }
        Ok(())
    }

    /// What it listens on, with the ports that were found where any would do.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let state = self.lock();
        let addresses = state.listening.iter();
        addresses.map(|(_, address)| address.clone()).collect()
    }

    /// What the admin listener listens on.
    #[must_use]
    pub fn admin_address(&self) -> Option<String> {
        self.lock().admin.clone()
    }

    /// Puts another configuration in place as a whole: requests that have begun end as they began,
    /// no connection is dropped. Workers and the admin listener stay as they are.
    ///
    /// # Errors
    /// See [`PlanError`]; nothing has changed then.
    pub fn reload(&self, settings: Settings) -> Result<(), PlanError> {
        let mut state = self.lock();
        let workers = state.threads.len();
        let blueprint = Blueprint::new(settings, self.writer.log())?;
        let plans = plans(&blueprint, workers, &state.plans)?;
        let wanted = || {
            blueprint
                .settings
                .server
                .listeners
                .iter()
                .map(|one| &one.bind)
        };
        state.open.retain(|(_, hold)| hold.strong_count() > 0);
        let stays = |bind: &Bind| wanted().any(|wanted| wanted == bind);
        let staying = state.listening.iter().filter(|(bind, _)| stays(bind));
        let own = Own {
            open: state.open.iter().map(|(address, _)| *address).collect(),
            staying: staying.flat_map(|(_, address)| address.parse()).collect(),
        };
        let is_old = |bind: &Bind| state.listening.iter().any(|(own, _)| own == bind);
        let added = wanted().filter(|bind| !is_old(bind));
        let mut fresh = bind::bind_all(added, workers, own)?;
        let opened = log::open(blueprint.settings.access_log.as_ref())?;
        // Nothing can fail from here on.
        self.writer.configure(opened);
        state.opened(&mut fresh);
        blueprint.bound(&state.listening);
        for (thread, plan) in state.threads.iter().zip(&plans) {
            thread.put(Arc::clone(plan));
        }
        state.plans = plans;
        for one in fresh {
            deal(&state.threads, one, &blueprint);
        }
        let (kept, gone) = std::mem::take(&mut state.listening)
            .into_iter()
            .partition(|(own, _)| wanted().any(|bind| bind == own));
        state.listening = kept;
        for (bind, _) in gone {
            state.files.retain(|file| !file.is_of(&bind));
            for thread in &state.threads {
                thread.tell(Command::Unlisten(bind.clone()));
            }
        }
        Ok(())
    }

    /// Opens the access log where its path leads now, as after a rotation; `false` where there is
    /// none.
    ///
    /// # Errors
    /// [`PlanError::Log`]; the old one goes on then.
    pub fn reopen_log(&self) -> Result<bool, PlanError> {
        let state = self.lock();
        let plan = state.plans.first();
        let settings = plan.and_then(|plan| plan.blueprint.settings.access_log.as_ref());
        self.writer.configure(log::open(settings)?);
        Ok(settings.is_some())
    }

    /// Stops accepting, lets requests in flight finish for at most `grace`, and returns when all
    /// is over. Where it is draining already, a shorter `grace` holds from now on.
    pub fn drain(&self, grace: Duration) {
        let mut state = self.lock();
        for thread in &state.threads {
            thread.tell(Command::Drain(grace));
        }
        self.draining.store(true, Ordering::Relaxed);
        state.files.clear();
        drop(state);
        self.join();
    }

    /// Waits until somebody has drained it.
    pub fn join(&self) {
        self.running.wait();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}
