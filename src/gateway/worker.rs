//! One thread of the gateway: its runtime, its listening sockets, its connections.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle as Task, yield_now};
use tokio::time::{Instant, timeout_at};

use super::accept::{Entrance, Listener, door};
use super::bind::Bound;
use super::config::settings::{Bind, ServerLimits};
use super::gate::Gate;
use super::lot::Lot;
use super::metrics::ConnectionMetrics;
use super::plan::{Blueprint, Plan};
use super::registry::Registry;
use super::relief::Relief;
use super::running::Run;
use super::watch::{Order, Watch};
use crate::engine::io::round::{self, Round, Rounds};

/// How long tasks have that were told to end at once.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a client in HTTP/1.1 that asks for nothing is kept when the gateway stops.
const PARTING: Duration = Duration::from_secs(1);

/// The longest grace for requests in flight: a year, which can be added to any clock.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Between two sweeps.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Sockets of a worker up to which what lists them does not move.
const USUAL_LISTENERS: usize = 4;

/// Connections that are sent to rest at a time, so that requests need not wait for a crowd of them.
const LULLED: usize = 32;

/// What a worker's tasks share.
#[derive(Debug)]
pub struct Worker {
    plan: RwLock<Arc<Plan>>,
    pub(super) registry: Arc<Registry>,
    pub(super) gate: Arc<Gate>,
    pub(super) lot: Lot,
    draining: AtomicBool,
    /// What is counted.
    pub connections: ConnectionMetrics,
}

impl Worker {
    /// What requests are served by at this moment; a reload waits for whoever looks at it.
    pub fn plan(&self) -> RwLockReadGuard<'_, Arc<Plan>> {
        self.plan.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway stops: no connection is kept for another request.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.registry.count()
    }

    /// How many of them are parked.
    #[must_use]
    pub fn parked_connections(&self) -> usize {
        self.lot.count()
    }

    /// What clients may take.
    #[must_use]
    pub fn limits(&self) -> ServerLimits {
        self.plan().blueprint.settings.server.limits
    }
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// This listens, too.
    Listen(Listener),
    /// Listen here no longer.
    Unlisten(Bind),
    /// Begin with the health checks of this plan.
    Begin(Arc<Plan>),
    /// Requests in flight have this long; then it is over. A second one may cut it short.
    Drain(Duration),
}

/// A worker as the rest of the gateway sees it.
#[derive(Debug)]
pub struct Thread {
    /// What its tasks share.
    pub worker: Arc<Worker>,
    runtime: Handle,
    commands: UnboundedSender<Command>,
}

impl Thread {
    /// Starts a thread, which holds `run` until its end.
    ///
    /// What lasts as long as the thread does is made here and where it listens, by whoever
    /// starts it: an allocator gives each thread pages of its own, and one such block on a page
    /// keeps all of it that a crowd of connections has had and left.
    ///
    /// # Errors
    /// Where the system has no more threads or descriptors.
    pub fn start(number: usize, plan: Arc<Plan>, gate: Arc<Gate>, run: Run) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(round::end)
            .build()?;
        let within = runtime.enter();
        let (lot, keeper) = Lot::new()?;
        let worker = Arc::new(Worker {
            plan: RwLock::new(plan),
            registry: Registry::new(),
            gate,
            lot,
            draining: AtomicBool::new(false),
            connections: ConnectionMetrics::default(),
        });
        worker.gate.add(Arc::clone(&worker.registry));
        tokio::spawn(keeper.keep());
        let sweeping = tokio::spawn(sweep(Arc::clone(&worker)));
        drop(within);
        let (commands, received) = unbounded_channel();
        let staff = Staff {
            sweeping,
            listening: Vec::with_capacity(USUAL_LISTENERS),
        };
        let (handle, own) = (runtime.handle().clone(), Arc::clone(&worker));
        let round = Round::new();
        std::thread::Builder::new()
            .name(format!("asgi-relay-{number}"))
            .spawn(move || {
                let rounds = Rounds::begin(round);
                runtime.block_on(work(&own, staff, received));
                drop(rounds);
                runtime.shutdown_timeout(LAST_WORDS);
                drop(run);
            })?;
        Ok(Self {
            worker,
            runtime: handle,
            commands,
        })
    }

    /// Connections are accepted there from now on, where the system lets them.
    fn listen(&self, entrance: Entrance) {
        let _within = self.runtime.enter();
        if let Ok(listener) = Listener::new(&self.worker, entrance) {
            self.tell(Command::Listen(listener));
        }
    }

    /// Requests from now on are served by this.
    pub fn put(&self, plan: Arc<Plan>) {
        let mut place = self
            .worker
            .plan
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, Arc::clone(&plan));
        drop(place);
        drop(before);
        self.tell(Command::Begin(plan));
    }

    /// Tells the thread; one that has ended does not hear it.
    pub(super) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Shares the sockets of an address out, which the blueprint has.
pub fn deal(threads: &[Thread], bound: Bound, blueprint: &Blueprint) {
    let Some(door) = door(blueprint, &bound.bind) else {
        return;
    };
    for (thread, socket) in threads.iter().zip(bound.sockets) {
        thread.listen(Entrance {
            bind: bound.bind.clone(),
            address: bound.address.clone(),
            socket,
            hold: Arc::clone(&bound.hold),
            door: door.clone(),
        });
    }
}

/// What works for a worker until its end.
struct Staff {
    sweeping: Task<()>,
    listening: Vec<Listener>,
}

async fn work(worker: &Worker, staff: Staff, mut commands: UnboundedReceiver<Command>) {
    let Staff {
        sweeping,
        mut listening,
    } = staff;
    worker.plan().begin();
    let grace = loop {
        match commands.recv().await {
            Some(Command::Listen(listener)) => listening.push(listener),
            Some(Command::Unlisten(bind)) => listening.retain(|listener| {
                let gone = *listener.bind() == bind;
                if gone {
                    listener.stop();
                }
                !gone
            }),
            Some(Command::Begin(plan)) => plan.begin(),
            Some(Command::Drain(grace)) => break grace,
            None => break Duration::ZERO,
        }
    };
    listening.iter().for_each(Listener::stop);
    for listener in listening {
        // Where there is no room for what is left, it is not waited for.
        listener.ended(LAST_WORDS).await;
    }
    drain(worker, grace, commands).await;
    sweeping.abort();
}

/// Ends all connections, those with something in flight when it is done, at most `grace` from now,
/// or as soon as it is told to.
async fn drain(worker: &Worker, grace: Duration, commands: UnboundedReceiver<Command>) {
    worker.draining.store(true, Ordering::Relaxed);
    let registry = &worker.registry;
    let goodbyes = async {
        // Those that have a word for it are told at once. A client in HTTP/1.1 is told with its
        // next answer, as it may be asking at this moment; who does not ask for a while is cut off.
        registry.tell(Order::Leave, Watch::has_goodbye);
        tokio::time::sleep(PARTING.min(grace / 2)).await;
        loop {
            registry.tell(Order::Leave, |_| true);
            tokio::time::sleep(LAST_WORDS).await;
        }
    };
    let over = async {
        tokio::select! {
            () = goodbyes => {}
            () = registry.empty() => {}
        }
    };
    tokio::select! {
        () = over => {}
        () = expire(grace, commands) => {
            registry.tell(Order::Die, |_| true);
            let _ = tokio::time::timeout(LAST_WORDS, registry.empty()).await;
        }
    }
}

/// Waits for `grace`, or for a shorter one that is named meanwhile.
async fn expire(grace: Duration, mut commands: UnboundedReceiver<Command>) {
    let until = |grace: Duration| Instant::now() + grace.min(LONGEST_GRACE);
    let mut end = until(grace);
    loop {
        match timeout_at(end, commands.recv()).await {
            Ok(Some(Command::Drain(grace))) => end = end.min(until(grace)),
            Ok(Some(_)) => {}
            // Nobody holds the gateway any more, or it is over.
            Ok(None) | Err(_) => return,
        }
    }
}

/// Ends connections that take too long, and gives back what those held that have ended or rest.
async fn sweep(worker: Arc<Worker>) {
    let mut relief = Relief::new();
    loop {
        let limits = worker.limits();
        let shortest = [
            limits.header_timeout,
            limits.body_timeout,
            limits.keepalive_timeout,
        ];
        let shortest = shortest.into_iter().flatten();
        let shortest = shortest.filter(|limit| !limit.is_zero()).min();
        let pause = shortest.map_or(LONGEST_PAUSE, |shortest| shortest / 8);
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        // Looking at all connections takes its time.
        round::end();
        for some in worker.registry.sweep(&limits, pause).chunks(LULLED) {
            some.iter().for_each(|watch| watch.lull());
            yield_now().await;
        }
        relief.after(worker.registry.has_let_go());
        tokio::time::sleep(pause).await;
    }
}
