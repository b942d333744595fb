//! One device: its inbox, its keys, and the transactions it has made.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::Notify;

use super::{Filter, Position};
use crate::limits::{INBOX_PER_DEVICE_MAX, TRANSACTIONS_PER_DEVICE_MAX};

/// A device of an account.
#[derive(Debug, Default)]
pub(crate) struct Device {
    pub(crate) token: String,
    pub(crate) display_name: Option<String>,
    /// Identity keys as uploaded.
    pub(crate) keys: Option<Value>,
    /// By key id (`signed_curve25519:AAAAAQ`).
    pub(crate) one_time_keys: BTreeMap<String, Value>,
    /// By algorithm: key id, key, whether it was claimed.
    pub(crate) fallback_keys: BTreeMap<String, FallbackKey>,
    /// To-device messages that no sync has acknowledged.
    inbox: VecDeque<(Position, Value)>,
    /// Oldest first: path with transaction id, and what was answered.
    transactions: VecDeque<(String, Value)>,
    /// Notified when a sync would have something new.
    pub(crate) wake: Arc<Notify>,
    /// The filter of the latest sync: what it would not tell anyway does not end its wait.
    pub(crate) listens: Arc<Filter>,
}

/// The key that is given out when the one-time keys are used up.
#[derive(Debug)]
pub(crate) struct FallbackKey {
    pub(crate) id: String,
    pub(crate) key: Value,
    pub(crate) used: bool,
}

impl Device {
    /// Puts a to-device message into the inbox and ends a waiting sync.
    pub(crate) fn deliver(&mut self, message: Value, position: Position) {
        if self.inbox.len() >= INBOX_PER_DEVICE_MAX {
            self.inbox.pop_front();
        }
        self.inbox.push_back((position, message));
        self.wake.notify_waiters();
    }

    /// Forgets the messages up to the position, which a sync's token says were received.
    pub(crate) fn acknowledge(&mut self, upto: Position) {
        while self
            .inbox
            .front()
            .is_some_and(|(position, _)| *position <= upto)
        {
            self.inbox.pop_front();
        }
    }

    /// The oldest messages that are not acknowledged, and the position of the last of them.
    pub(crate) fn undelivered(&self, max: usize) -> (Vec<Value>, Option<Position>) {
        let messages = self
            .inbox
            .iter()
            .take(max)
            .map(|(_, message)| message.clone())
            .collect();
        let last = self
            .inbox
            .iter()
            .take(max)
            .next_back()
            .map(|(position, _)| *position);
        (messages, last)
    }

    /// What was answered to this transaction before, if it was made before.
    pub(crate) fn transaction(&self, id: &str) -> Option<Value> {
        self.transactions
            .iter()
            .rev()
            .find(|(known, _)| known == id)
            .map(|(_, answer)| answer.clone())
    }

    /// Remembers the answer to a transaction.
    pub(crate) fn remember(&mut self, id: String, answer: Value) {
        if self.transactions.len() >= TRANSACTIONS_PER_DEVICE_MAX {
            self.transactions.pop_front();
        }
        self.transactions.push_back((id, answer));
    }

    /// How many one-time keys of the algorithm are left.
    pub(crate) fn one_time_key_count(&self, algorithm: &str) -> usize {
        self.one_time_keys
            .keys()
            .filter(|id| id.split(':').next() == Some(algorithm))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_messages_until_they_are_acknowledged() {
        let mut device = Device::default();
        device.deliver(json!("a"), 3);
        device.deliver(json!("b"), 5);
        assert_eq!(
            device.undelivered(10),
            (vec![json!("a"), json!("b")], Some(5))
        );
        assert_eq!(device.undelivered(1), (vec![json!("a")], Some(3)));
        device.acknowledge(3);
        assert_eq!(device.undelivered(10), (vec![json!("b")], Some(5)));
        device.acknowledge(9);
        assert_eq!(device.undelivered(10), (vec![], None));
    }

    #[test]
    fn a_full_inbox_forgets_the_oldest() {
        let mut device = Device::default();
        for position in 1..=2_001 {
            device.deliver(json!(position), position);
        }
        assert_eq!(device.undelivered(1), (vec![json!(2)], Some(2)));
        assert_eq!(device.inbox.len(), 2_000);
    }
}
