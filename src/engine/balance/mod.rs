//! Several upstreams: which of them a request goes to, and which of them are fit for one.
//!
//! [`set::Balancer`] holds the targets as [`member::Member`]s and gives out [`turn::Turn`]s
//! ([`choose`]); a turn counts as in flight until it is dropped, and tells the member's health how
//! it went. What is pure has no clock and no socket: [`policy`] with [`draws`], [`turns`] and
//! [`ring`], [`latency`], [`ejection`], [`probing`].

pub mod affinity;
pub mod choose;
pub mod draws;
pub mod ejection;
pub mod gate;
pub mod latency;
pub mod member;
pub mod outcome;
pub mod policy;
pub mod probe;
pub mod probing;
pub mod refresh;
pub mod ring;
pub mod set;
pub mod settings;
pub mod turn;
pub mod turns;
