//! Stories of calls. What proves a point of the compatibility checklist names its number.

mod cascade;
mod client;
mod dialects;
mod foci;
mod hostile;
mod join;
mod leave;
mod mute;
mod overview;
mod random;
mod renegotiate;
mod see;
mod share;
mod slots;
mod subscribe;
mod told;
mod world;
