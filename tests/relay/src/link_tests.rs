//! A link in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` datagrams of `bytes` payload, one each `every`, and gives (number, milliseconds since the first was sent)
/// of those that arrive.
fn send(
    line: &str,
    seed: u64,
    count: u32,
    bytes: usize,
    every: Duration,
) -> (Vec<(u32, f64)>, Counters) {
    let start = Instant::now();
    let mut link = Link::new(line.parse().expect("a good line"), seed, start);
    let mut arrived = Vec::new();
    for number in 0..count {
        let now = start + every * number;
        run_until(&mut link, now, start, &mut arrived);
        link.handle(number, bytes, now);
    }
    run_until(
        &mut link,
        start + every * count + 100_000 * MS,
        start,
        &mut arrived,
    );
    assert_eq!(link.poll_timeout(), None, "everything has arrived");
    (arrived, *link.counters())
}

fn run_until(link: &mut Link<u32>, until: Instant, start: Instant, arrived: &mut Vec<(u32, f64)>) {
    while let Some(next) = link.poll_timeout().filter(|next| *next <= until) {
        while let Some(number) = link.poll(next) {
            arrived.push((number, (next - start).as_micros() as f64 / 1000.0));
        }
    }
}

fn numbers(arrived: &[(u32, f64)]) -> Vec<u32> {
    arrived.iter().map(|(number, _)| *number).collect()
}

#[test]
fn a_perfect_network_delivers_at_once_and_in_order() {
    let (arrived, counters) = send("", 1, 4, 1000, 10 * MS);
    assert_eq!(arrived, [(0, 0.0), (1, 10.0), (2, 20.0), (3, 30.0)]);
    let expected = Counters {
        received: 4,
        received_bytes: 4000,
        delivered: 4,
        delivered_bytes: 4000,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
}

#[test]
fn delay_holds_for_every_datagram() {
    let (arrived, _) = send("delay=25ms", 1, 3, 1000, 10 * MS);
    assert_eq!(arrived, [(0, 25.0), (1, 35.0), (2, 45.0)]);
}

#[test]
fn loss_takes_its_share() {
    let (arrived, counters) = send("loss=5%", 7, 100_000, 100, MS);
    assert_eq!(arrived.len() as u64 + counters.lost, 100_000);
    assert!((4800..=5200).contains(&counters.lost), "{}", counters.lost);
    assert_eq!(counters.delivered, arrived.len() as u64);
}

#[test]
fn one_seed_has_one_fate_and_another_has_another() {
    let line = "loss=5%, burst=1%, jitter=10ms, reorder=2%, duplicate=1%";
    let once = send(line, 42, 5000, 1000, 3 * MS);
    assert_eq!(send(line, 42, 5000, 1000, 3 * MS), once);
    assert_ne!(send(line, 43, 5000, 1000, 3 * MS).0, once.0);
}

#[test]
fn bursts_come_as_often_and_last_as_long_as_asked() {
    let (arrived, counters) = send("burst=1%, burst_packets=10", 3, 100_000, 100, MS);
    let arrived = numbers(&arrived);
    let gaps = arrived
        .windows(2)
        .map(|pair| pair[1] - pair[0] - 1)
        .filter(|gap| *gap > 0);
    let (bursts, lost) = gaps.fold((0_u32, 0_u32), |(bursts, lost), gap| {
        (bursts + 1, lost + gap)
    });
    // A burst each 100 good datagrams and 10 bad ones: 909 of 100 000.
    assert!((800..=1020).contains(&bursts), "{bursts}");
    let mean = f64::from(lost) / f64::from(bursts);
    assert!((9.0..=11.0).contains(&mean), "{mean}");
    assert_eq!(counters.lost, 0);
}

#[test]
fn a_burst_may_let_some_through() {
    let (_, counters) = send(
        "burst=100%, burst_packets=1000000, burst_loss=50%",
        3,
        10_000,
        100,
        MS,
    );
    assert!(
        (4800..=5200).contains(&counters.lost_in_burst),
        "{}",
        counters.lost_in_burst
    );
}

#[test]
fn jitter_changes_times_and_keeps_the_order() {
    let (arrived, _) = send("delay=10ms, jitter=30ms", 5, 1000, 100, 5 * MS);
    let in_order: Vec<u32> = (0..1000).collect();
    assert_eq!(numbers(&arrived), in_order);
    let delays = arrived
        .iter()
        .map(|(number, at)| at - 5.0 * f64::from(*number));
    let (least, most) = delays.fold((f64::MAX, 0.0_f64), |(least, most), delay| {
        (least.min(delay), most.max(delay))
    });
    assert!(
        (10.0..12.0).contains(&least) && (37.0..=40.0).contains(&most),
        "{least} to {most}"
    );
}

#[test]
fn a_held_back_datagram_is_overtaken() {
    let (arrived, counters) = send("reorder=2%, reorder_by=20ms", 5, 1000, 100, 5 * MS);
    let held = arrived
        .iter()
        .filter(|(number, at)| at - 5.0 * f64::from(*number) == 20.0)
        .count();
    assert_eq!(held as u64, counters.reordered);
    assert!((10..=35).contains(&held), "{held}");
    assert_eq!(arrived.len(), 1000);
    assert!(!arrived.is_sorted_by_key(|(number, _)| *number));
}

#[test]
fn a_duplicate_comes_with_its_original() {
    let (arrived, counters) = send("duplicate=100%, delay=5ms", 5, 2, 100, 10 * MS);
    assert_eq!(arrived, [(0, 5.0), (0, 5.0), (1, 15.0), (1, 15.0)]);
    assert_eq!(counters.duplicated, 2);
    assert_eq!(counters.delivered, 4);
}

#[test]
fn the_rate_spaces_datagrams() {
    // 972 bytes and 28 of headers are 8000 bits: 8 ms at 1 Mb/s.
    let (arrived, counters) = send("rate=1M, delay=5ms", 1, 3, 972, Duration::ZERO);
    assert_eq!(arrived, [(0, 13.0), (1, 21.0), (2, 29.0)]);
    assert_eq!(counters.queue_us_max, 16_000);
}

#[test]
fn a_full_queue_drops_the_newest() {
    // 40 ms at 1 Mb/s are 5 datagrams, besides the one that is being sent.
    let (arrived, counters) = send("rate=1M, queue=40ms", 1, 20, 972, Duration::ZERO);
    assert_eq!(numbers(&arrived), [0, 1, 2, 3, 4, 5]);
    assert_eq!(counters.queue_full, 14);
}

#[test]
fn what_goes_through_is_what_the_rate_says() {
    let (arrived, _) = send("rate=500k, queue=100ms", 1, 5000, 1172, 2 * MS);
    // 10 s at 500 kb/s are 520.8 datagrams of 1200 bytes, and 100 ms of queue.
    assert!((520..=528).contains(&arrived.len()), "{}", arrived.len());
}

#[test]
fn a_queue_shorter_than_a_datagram_still_lets_one_wait() {
    let (arrived, _) = send("rate=100k, queue=1ms", 1, 10, 1172, Duration::ZERO);
    assert_eq!(numbers(&arrived), [0, 1]);
}

#[test]
fn a_schedule_takes_effect_at_its_times() {
    let (arrived, counters) = send(
        "delay=5ms; 30ms: delay=20ms; 60ms: loss=100%",
        1,
        8,
        100,
        10 * MS,
    );
    assert_eq!(
        arrived,
        [
            (0, 5.0),
            (1, 15.0),
            (2, 25.0),
            (3, 50.0),
            (4, 60.0),
            (5, 70.0)
        ]
    );
    assert_eq!(counters.lost, 2);
}

#[test]
fn a_rate_limit_that_ends_lets_the_queue_go() {
    let (arrived, _) = send(
        "rate=100k, queue=10s; 500ms: rate=none",
        1,
        10,
        1222,
        Duration::ZERO,
    );
    // 100 ms each, until everything goes at once.
    let late: Vec<f64> = arrived.iter().map(|(_, at)| *at).collect();
    assert_eq!(
        late,
        [
            100.0, 200.0, 300.0, 400.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0
        ]
    );
}

#[test]
fn another_schedule_begins_at_once_and_keeps_what_flies() {
    let start = Instant::now();
    let mut link = Link::new("delay=100ms".parse().expect("a good line"), 1, start);
    link.handle("old", 10, start);
    link.set_schedule(
        "loss=100%; 1s: loss=0".parse().expect("a good line"),
        start + 50 * MS,
    );
    link.handle("lost", 10, start + 60 * MS);
    link.handle("new", 10, start + 1050 * MS);
    assert_eq!(link.poll(start + 1050 * MS), Some("old"));
    assert_eq!(link.poll(start + 1050 * MS), Some("new"));
    assert_eq!(link.poll(start + 1050 * MS), None);
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let (arrived, counters) = send("delay=50s", 1, 20_000, 10, Duration::ZERO);
    assert_eq!(arrived.len(), 16_384);
    assert_eq!(counters.queue_full, 3616);
}
