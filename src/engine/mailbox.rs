//! Mailboxes: how the engine hands what has arrived to the event loop, with one wake for many.
//!
//! The engine publishes into a [`Mailbox`], one per exchange; whoever waits for it leaves a key.
//! A publication with a key rings the loop's [`Doorbell`]: the key goes into the loop's one queue,
//! and the loop is woken when that queue was empty. No octet of Python here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;

use super::doorbell::{Doorbell, Waiting};
use super::error::Error;
use super::upstream::socket::READ_BUFFER;

/// Octets that wait in a mailbox before the engine stops reading from the upstream. It goes on
/// when a quarter of them is gone, so that it is not woken for each small message. Less than one
/// message: reading further ahead only fills memory that no cache holds any more when it is taken.
pub const CAPACITY: usize = MESSAGE / 2;

/// Octets that a chunk counts for beside its own, so that many small ones are not free.
pub const CHUNK_COST: usize = 64;

/// With this many octets, what is taken is not added to: more come with the next taking.
pub const MESSAGE: usize = 192 * 1024;

/// Octets of a body that may wait for a client that does not read: here, with whoever sends the last
/// message, and in the server's buffer, which may still hold the one before and [`UNPAUSED`] more.
pub const WAITING: usize = 1024 * 1024;

/// Octets that may wait in a server's buffer while it takes the next message all the same: asyncio's
/// high-water mark, which uvloop and the servers on both leave as it is.
pub const UNPAUSED: usize = 64 * 1024;

/// What a mailbox holds many of: octets of a body, or messages.
pub trait Item {
    /// How many octets it holds.
    fn size(&self) -> usize;
}

impl Item for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

/// A mailbox; `Head` is what comes before the items, `Note` what is told on the side.
#[derive(Debug)]
pub struct Mailbox<Head, Note = (), I = Bytes> {
    state: Mutex<State<Head, Note, I>>,
    doorbell: Doorbell,
}

/// How a body ended.
#[derive(Debug, Clone)]
pub enum End {
    /// Complete.
    Complete,
    /// Cut short, or nothing came at all.
    Failed(Error),
}

/// What a mailbox holds at the moment; taking it empties it.
#[derive(Debug)]
pub struct Contents<Head, Note, I = Bytes> {
    /// Events on the side, oldest first.
    pub notes: Vec<Note>,
    /// Present once.
    pub head: Option<Head>,
    /// Octets of the body, or messages, in order.
    pub chunks: Vec<I>,
    /// How many octets `chunks` hold.
    pub size: usize,
    /// Nothing comes after this.
    pub end: Option<End>,
    /// The owner of the client's connection gave up.
    pub aborted: bool,
}

#[derive(Debug)]
struct State<Head, Note, I> {
    contents: Contents<Head, Note, I>,
    parked: Waiting,
    /// The engine's task, to be told of room or of the end of the exchange.
    task: Option<Waker>,
    waits_for_room: bool,
    /// It is a body that waits for room, and not a message.
    reads: bool,
    /// Octets of the last two messages that were taken; the last one is 0 when it has been sent.
    /// A server takes the next one when it has nearly nothing left of those before.
    taken: [usize; 2],
    /// A head has been published.
    begun: bool,
    /// An end has been published.
    ended: bool,
    /// The engine's side was ended from outside.
    cut: bool,
}

impl<Head, Note, I: Item> Contents<Head, Note, I> {
    const fn empty() -> Self {
        Self {
            notes: Vec::new(),
            head: None,
            chunks: Vec::new(),
            size: 0,
            end: None,
            aborted: false,
        }
    }

    fn is_news(&self) -> bool {
        !self.notes.is_empty()
            || self.head.is_some()
            || !self.chunks.is_empty()
            || self.end.is_some()
            || self.aborted
    }

    /// Leaves in `self` what one message holds, and returns what comes behind it.
    fn split_off_rest(&mut self) -> Option<Self> {
        let mut size = 0;
        let fits = self.chunks.iter().take_while(|chunk| {
            let room = size < MESSAGE;
            size += chunk.size();
            room
        });
        let fits = fits.count();
        if fits == self.chunks.len() {
            return None;
        }
        let mut rest = Self::empty();
        rest.chunks = self.chunks.split_off(fits);
        rest.size = rest.chunks.iter().map(Item::size).sum();
        rest.end = self.end.take();
        rest.aborted = self.aborted;
        self.size -= rest.size;
        Some(rest)
    }

    /// What the chunks count for.
    fn cost(&self) -> usize {
        self.size + self.chunks.len() * CHUNK_COST
    }

    /// Adds one more.
    pub fn push(&mut self, chunk: I) {
        self.size += chunk.size();
        self.chunks.push(chunk);
    }

    /// Adds several.
    pub fn extend(&mut self, chunks: Vec<I>) {
        self.size += chunks.iter().map(Item::size).sum::<usize>();
        match self.chunks.is_empty() {
            true => self.chunks = chunks,
            false => self.chunks.extend(chunks),
        }
    }
}

impl<Head, Note, I: Item> Mailbox<Head, Note, I> {
    /// An empty mailbox whose waiters are woken through `doorbell`.
    #[must_use]
    pub fn new(doorbell: Doorbell) -> Arc<Self> {
        let state = State {
            contents: Contents::empty(),
            parked: Waiting::default(),
            task: None,
            waits_for_room: false,
            reads: false,
            taken: [0; 2],
            begun: false,
            ended: false,
            cut: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            doorbell,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<Head, Note, I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The doorbell of the loop that this mailbox belongs to.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Changes the contents and wakes whoever waits for them.
    pub fn publish(&self, change: impl FnOnce(&mut Contents<Head, Note, I>)) {
        let mut state = self.lock();
        if state.cut {
            return;
        }
        change(&mut state.contents);
        state.begun |= state.contents.head.is_some();
        state.ended |= state.contents.end.is_some();
        let waiting = state.parked.take();
        // Behind the end there is nothing that the task could be woken for.
        let task = state.ended.then(|| state.task.take());
        drop(state);
        drop(task);
        waiting.ring(&self.doorbell);
    }

    /// Takes what is there, up to a [`MESSAGE`]; `None` where there is nothing new. Makes room.
    pub fn take(&self) -> Option<Contents<Head, Note, I>> {
        let mut state = self.lock();
        if !state.contents.is_news() {
            state.hand_over(0);
            make_room(state);
            return None;
        }
        let mut taken = std::mem::replace(&mut state.contents, Contents::empty());
        state.contents.aborted = taken.aborted;
        if let Some(rest) = taken.split_off_rest() {
            state.contents = rest;
        }
        state.hand_over(taken.size);
        make_room(state);
        Some(taken)
    }

    /// Leaves a key to be rung at the next publication; `false` where there is news already.
    pub fn park(&self, key: usize) -> bool {
        let mut state = self.lock();
        if state.contents.is_news() {
            return false;
        }
        state.parked.add(key);
        state.hand_over(0);
        make_room(state);
        true
    }

    /// Takes back a key that was left; `false` where it has been rung for.
    pub fn unpark(&self, key: usize) -> bool {
        self.lock().parked.remove(key)
    }

    /// Ends the exchange from the client's side: the engine drops what it does for it. Returns
    /// the key of whoever has waited longest, to be woken by the caller.
    pub fn abort(&self) -> Option<usize> {
        let mut state = self.lock();
        state.contents.aborted = true;
        let mut waiting = state.parked.take();
        wake(state);
        let first = waiting.first.take();
        waiting.ring(&self.doorbell);
        first
    }

    /// Ends the exchange from the engine's side: publishes a last change, told whether there has
    /// been a head; whatever the task would publish later is dropped. Behind its end, taken or not,
    /// there is nothing to cut.
    pub fn cut(&self, change: impl FnOnce(&mut Contents<Head, Note, I>, bool)) {
        let mut state = self.lock();
        if state.cut || state.ended {
            return;
        }
        state.cut = true;
        let begun = state.begun;
        change(&mut state.contents, begun);
        let waiting = state.parked.take();
        wake(state);
        waiting.ring(&self.doorbell);
    }

    /// Whether the exchange is over for the task, by [`Mailbox::abort`] or [`Mailbox::cut`]; if
    /// not, the task is woken when it is.
    pub fn poll_aborted(&self, context: &mut Context<'_>) -> bool {
        let mut state = self.lock();
        state.wait(context)
    }

    /// Whether there is room for more messages, and somebody who waits for them.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.contents.cost() < CAPACITY && !state.contents.aborted && !state.cut
    }

    /// Whether nobody waits for this mailbox any more.
    pub fn is_aborted(&self) -> bool {
        self.lock().contents.aborted
    }

    /// Whether all has been published, or nobody waits for more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.ended || state.cut || state.contents.aborted
    }

    /// Whether there is room for as much of a body as may be read at once, so that no more than
    /// [`WAITING`] octets wait; if not, the task is woken when there is.
    pub fn poll_room(&self, context: &mut Context<'_>) -> bool {
        let mut state = self.lock();
        state.wait(context);
        state.reads = true;
        state.waits_for_room = state.contents.cost() >= CAPACITY || !state.may_read();
        !state.waits_for_room
    }

    /// What [`Mailbox::poll_aborted`] tells, and whether there is room here for more messages,
    /// however large one is.
    pub fn poll(&self, context: &mut Context<'_>) -> (bool, bool) {
        let mut state = self.lock();
        let over = state.wait(context);
        state.waits_for_room = state.contents.cost() >= CAPACITY;
        (over, !state.waits_for_room)
    }
}

impl<Head, Note, I> State<Head, Note, I> {
    /// Whether it is over for the task; if not, that is woken when it is. One that ends leaves no
    /// waker, by which the mailbox would keep the task's memory and its runtime's descriptors.
    fn wait(&mut self, context: &mut Context<'_>) -> bool {
        let over = self.contents.aborted || self.cut;
        match &mut self.task {
            task if over => *task = None,
            Some(waker) => waker.clone_from(context.waker()),
            task => *task = Some(context.waker().clone()),
        }
        over
    }

    /// So many octets are taken, as whoever takes them has sent what was taken before.
    fn hand_over(&mut self, octets: usize) {
        let [_, last] = self.taken;
        if last > 0 {
            self.taken = [last, octets];
        } else {
            self.taken[1] = octets;
        }
    }

    fn may_read(&self) -> bool {
        let [before, last] = self.taken;
        // An upstream in this process may have one chunk that is larger than all of it.
        let waits_for_more = last == 0 && self.contents.size == 0;
        let waiting = UNPAUSED + before + last + self.contents.size;
        waits_for_more || waiting + READ_BUFFER <= WAITING
    }
}

/// Has the task go on if there is room again.
fn make_room<Head, Note, I: Item>(mut state: MutexGuard<'_, State<Head, Note, I>>) {
    if state.waits_for_room
        && state.contents.cost() <= CAPACITY / 4 * 3
        && (state.may_read() || !state.reads)
    {
        state.waits_for_room = false;
        wake(state);
    }
}

fn wake<Head, Note, I>(mut state: MutexGuard<'_, State<Head, Note, I>>) {
    let task = state.task.take();
    drop(state);
    if let Some(task) = task {
        task.wake();
    }
}
