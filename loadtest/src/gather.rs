//! What several foci say about who is connected where (`/conferences`), put together into one document of the same form, and whether
//! that is what it should be.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use weir_client::FocusAddress;

/// As often as foci write it anew.
const EVERY: Duration = Duration::from_secs(1);
/// A focus that is there answers at once; a machine that is full holds it up.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// A focus and where its HTTP side is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How it is called.
    pub focus: FocusAddress,
    /// Its HTTP listener.
    pub http: SocketAddr,
}

/// Asks all of them once a second from now on; gives the newest document, and the task, which goes on until it is aborted.
///
/// # Errors
/// There is no HTTP client.
pub fn start(foci: Vec<Asked>) -> anyhow::Result<(watch::Receiver<String>, JoinHandle<()>)> {
    let client = reqwest::Client::builder().timeout(ANSWERS_WITHIN).build()?;
    let (document, published) = watch::channel(json!({"foci": []}).to_string());
    let task = tokio::spawn(async move {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !document.is_closed() {
            tick.tick().await;
            document.send_replace(gather(&client, &foci).await.to_string());
        }
    });
    Ok((published, task))
}

/// All at the same time: one that is gone holds up nobody.
async fn gather(client: &reqwest::Client, foci: &[Asked]) -> Value {
    let mut asking = JoinSet::new();
    for (index, asked) in foci.iter().cloned().enumerate() {
        let client = client.clone();
        asking.spawn(async move { (index, ask(&client, &asked).await) });
    }
    let mut said: Vec<Value> = foci.iter().map(|asked| gone(&asked.focus)).collect();
    while let Some(answer) = asking.join_next().await {
        if let Ok((index, Some(focus))) = answer {
            said[index] = focus;
        }
    }
    json!({"foci": said})
}

/// What a focus says of itself; `None` if it says nothing.
async fn ask(client: &reqwest::Client, asked: &Asked) -> Option<Value> {
    let url = format!("http://{}/conferences", asked.http);
    let answer = client.get(url).send().await.ok()?.error_for_status().ok()?;
    let mut document: Value = answer.json().await.ok()?;
    let focus = document["foci"].get_mut(0)?.take();
    // Before it has logged in, it does not know who it is.
    focus.is_object().then_some(focus)
}

/// A focus that does not answer.
fn gone(focus: &FocusAddress) -> Value {
    json!({
        "user_id": focus.user_id,
        "device_id": focus.device_id,
        "state": "gone",
        "conferences": [],
        "left_out": 0,
    })
}

/// What is not there, in words, of: these participants, each at its focus, in one conference; and a trunk between every two foci
/// that have any, over which packets go both ways.
pub fn missing(document: &Value, participants: &[(String, FocusAddress)]) -> Vec<String> {
    let mut missing = Vec::new();
    let mut inhabited: Vec<&FocusAddress> = participants.iter().map(|(_, at)| at).collect();
    inhabited.sort();
    inhabited.dedup();
    for focus in &inhabited {
        let of = of(document, focus);
        if of["state"] != "up" {
            missing.push(format!("{} does not answer", focus.user_id));
            continue;
        }
        let conferences = of["conferences"].as_array().map_or(0, Vec::len);
        if conferences != 1 {
            missing.push(format!("{} has {conferences} conferences", focus.user_id));
        }
        let conference = &of["conferences"][0];
        for (user_id, at) in participants.iter().filter(|(_, at)| at == *focus) {
            if named(&conference["participants"], user_id).is_none() {
                missing.push(format!("{} does not show {user_id}", at.user_id));
            }
        }
        let others = inhabited.iter().filter(|other| *other != focus);
        for other in others {
            let trunk = named(&conference["trunks"], &other.user_id);
            if !trunk.is_some_and(flows) {
                missing.push(format!(
                    "no trunk from {} to {} over which packets go both ways",
                    focus.user_id, other.user_id
                ));
            }
        }
    }
    missing
}

fn of<'a>(document: &'a Value, focus: &FocusAddress) -> &'a Value {
    named(&document["foci"], &focus.user_id).unwrap_or(&Value::Null)
}

fn named<'a>(list: &'a Value, user_id: &str) -> Option<&'a Value> {
    let list = list.as_array()?;
    list.iter().find(|of| of["user_id"] == user_id)
}

fn flows(trunk: &Value) -> bool {
    let moves = |direction: &str| {
        let of = &trunk[direction];
        of["video"].as_u64() > Some(0) && of["packets_per_second"].as_u64() > Some(0)
    };
    trunk["state"] == "up" && moves("to") && moves("from")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    fn address(number: usize) -> FocusAddress {
        FocusAddress {
            user_id: format!("@focus{number}:x"),
            device_id: "F".into(),
        }
    }

    fn trunk(to: usize, packets: u64) -> Value {
        let direction =
            |packets: u64| json!({"audio": 1, "video": 1, "packets_per_second": packets});
        json!({"user_id": format!("@focus{to}:x"), "state": "up", "to": direction(packets), "from": direction(9)})
    }

    /// Two foci with a participant each.
    fn healthy() -> Value {
        let focus = |number: usize, other: usize| {
            let participants = json!([{"user_id": format!("@p{number}:x")}]);
            json!({
                "user_id": format!("@focus{number}:x"),
                "state": "up",
                "conferences": [{"participants": participants, "trunks": [trunk(other, 9)]}],
            })
        };
        json!({"foci": [focus(1, 2), focus(2, 1)]})
    }

    fn missing_of(document: &Value) -> Vec<String> {
        let at = |number: usize| (format!("@p{number}:x"), address(number));
        missing(document, &[at(1), at(2)])
    }

    #[test]
    fn a_healthy_picture_misses_nothing() {
        assert_eq!(missing_of(&healthy()), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        type Change = fn(&mut Value);
        let without = |change: Change| {
            let mut document = healthy();
            change(&mut document["foci"][0]);
            missing_of(&document)
        };
        let no_trunk = "no trunk from @focus1:x to @focus2:x over which packets go both ways";
        let changes: [(Change, &str); 5] = [
            (
                |of| of["state"] = "gone".into(),
                "@focus1:x does not answer",
            ),
            (
                |of| of["conferences"][0]["participants"] = json!([]),
                "@focus1:x does not show @p1:x",
            ),
            (|of| of["conferences"][0]["trunks"] = json!([]), no_trunk),
            (
                |of| of["conferences"][0]["trunks"][0]["state"] = "calling".into(),
                no_trunk,
            ),
            (
                |of| of["conferences"][0]["trunks"][0] = trunk(2, 0),
                no_trunk,
            ),
        ];
        for (change, expected) in changes {
            assert_eq!(without(change), [expected]);
        }
        let twice = without(|of| {
            let conference = of["conferences"][0].clone();
            of["conferences"] = json!([conference, conference]);
        });
        assert_eq!(twice, ["@focus1:x has 2 conferences"]);
    }

    #[tokio::test]
    async fn a_focus_that_does_not_answer_is_gone() {
        // Nobody listens there any more.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let http = listener.local_addr().unwrap();
        drop(listener);
        let focus = address(1);
        let document = gather(&reqwest::Client::new(), &[Asked { focus, http }]).await;
        assert_eq!(document, json!({"foci": [gone(&address(1))]}));
    }
}
