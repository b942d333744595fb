//! Every limit of a shard, with what more and what less of it costs.
//!
//! A full table drops, counts the reason, and never grows.

use std::time::Duration;

// ── Memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// One receive buffer: the runtime's header of a multishot `recvmsg` (16), an address (28), a datagram of an Ethernet
/// frame (1500), and slack for padding behind it. Larger wastes memory for every packet of the history; smaller cuts datagrams.
pub const RECEIVE_BUFFER_BYTES: usize = 2048;

/// One send buffer: 26 datagrams of 1200 bytes. Longer runs gain little (0.14 µs a packet at 16 segments, 0.06 at 54) and
/// cost cache; shorter runs cost a send each.
pub const SEND_BUFFER_BYTES: usize = 32 * 1024;

/// Linux takes at most 64 segments in one `UDP_SEGMENT` send (128 since 6.9).
pub const SEGMENTS_MAX: usize = 64;

/// Send buffers of one shard: 1024 × 32 KiB. Packets are sealed as the runtime takes them, and it gives back what the kernel is
/// done with in between; the number covers what a network card holds that is slower than the shard for a while, and reports to
/// a quarter of all transports at once. Untouched ones cost no memory.
pub const SEND_BUFFERS: usize = 1024;

/// Packets kept for retransmission on one shard: 8192 × 2 KiB = 16 MiB, half a second of 16 000 packets a second.
/// More survives longer round trips, less leaves lost packets to keyframes.
pub const HISTORY_PACKETS_MAX: usize = 8192;

/// What a video subscription remembers of what it sent: 1024 × 14 bytes, as many packets as the history of a layer has.
pub const SENT_VIDEO_PACKETS: usize = 1024;

/// The same for audio: 1.3 s of 20 ms.
pub const SENT_AUDIO_PACKETS: usize = 64;

/// Packets of a video layer kept for retransmission: 5 s at 1.7 Mb/s, longer than a decoder waits for a packet.
pub const HISTORY_VIDEO_PACKETS: usize = 1024;

/// Packets of an audio layer kept: 5 s of 20 ms.
pub const HISTORY_AUDIO_PACKETS: usize = 256;

/// Packets kept of a layer that nobody is subscribed to: enough to start from a keyframe that arrives reordered.
pub const HISTORY_IDLE_PACKETS: u64 = 32;

/// Packets that one batch may hold besides the history. The runtime hands over at most this many before `flush`.
pub const PACKETS_PER_BATCH_MAX: usize = 1024;

/// Forwarded packets that may wait for `flush`. 1024 received × 64 subscribers; beyond it is dropped and counted.
pub const OUTGOING_MAX: usize = 64 * 1024;

// ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Transports of one shard. A core forwards for some hundreds of participants; the rest is headroom for joins.
pub const TRANSPORTS_MAX: usize = 4096;

/// Tracks of one shard: camera, microphone, screen and its sound of every transport.
pub const TRACKS_MAX: usize = 4 * TRANSPORTS_MAX;

/// Subscriptions of one shard: 512 participants that see 64 tracks each. One costs about 15 KiB, most of it the ring of
/// what was sent.
pub const SUBSCRIPTIONS_MAX: usize = 32 * 1024;

/// Paths of one transport: to IPv4 and IPv6 addresses of two interfaces. A fifth replaces the one not checked for longest.
pub const PATHS_PER_TRANSPORT: usize = 4;

/// SSRCs that one transport may send: 3 layers and 3 retransmission streams of a camera and of a few screen shares, and
/// those they replace. An attacker who invents SSRCs reaches only this.
pub const SSRCS_PER_TRANSPORT: usize = 64;

/// And more than that where more tracks are negotiated, as on a trunk: for each layer its media, its retransmissions, and those
/// they replace.
pub const SSRCS_PER_LAYER: usize = 4;

/// An SSRC that was silent this long may be replaced when the table is full.
pub const SSRC_IDLE: Duration = Duration::from_secs(10);

/// Simulcast layers of one track. Browsers send three.
pub const LAYERS_MAX: usize = 4;

/// Spatial layers within one encoding: AV1 and VP9 as browsers send them have three; the dependency descriptor counts to four.
pub const SPATIAL_LAYERS_MAX: usize = 4;

/// Temporal layers of one encoding: VP8 counts to four, browsers use three. Higher ones count as the fourth.
pub const TEMPORAL_LAYERS_MAX: usize = 4;

/// SSRCs that one transport may have been sent in its life. Each is remembered (16 bytes) so that none starts anew under
/// the same key; a participant that wants more joins again.
pub const USED_SSRCS_MAX: usize = 16 * 1024;

/// Subscriptions of one track on this shard: a lecture to everybody on it.
pub const SUBSCRIPTIONS_PER_TRACK: usize = TRANSPORTS_MAX;

/// Mid and rid in a header extension (RFC 8852 allows more; browsers use one or two).
pub const MID_BYTES_MAX: usize = 16;

/// One DTLS datagram: an Ethernet frame.
pub const DATAGRAM_BYTES_MAX: usize = 1500;

/// Events that wait for control. It is emptied at every wake-up; when full, DTLS datagrams are dropped (the peer repeats).
pub const EVENTS_MAX: usize = 4096;

/// DTLS datagrams of one transport passed on per second: a handshake has 10, data channel messages of 256 KiB have 250.
pub const DATAGRAMS_PER_SECOND: u32 = 1000;

// ── ICE ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// RFC 7675 §5.1: consent ends 30 s after the last authenticated check.
pub const CONSENT: Duration = Duration::from_secs(30);

/// A selected address without checks this long gives way to another that is checked but not nominated: some browsers
/// nominate once and only check from then on. Checks come every 2.5 s or faster.
pub const SELECTED_SILENT: Duration = Duration::from_secs(6);

/// Remote addresses that one transport checks: IPv4 and IPv6 of four interfaces. More would let whoever is called draw more
/// datagrams to addresses that may be anybody's (RFC 8445 §19.5.1): these get at most seven small ones each.
pub const REMOTES_MAX: usize = 8;

/// Ta of RFC 8445 §14.2: between two checks of one transport.
pub const CHECK_PACE: Duration = Duration::from_millis(50);

/// RTO of RFC 8445 §14.3, its least: until a check without an answer is repeated, doubled each time.
pub const CHECK_RETRY: Duration = Duration::from_millis(500);

/// Deviation: RFC 8489 §6.2.1 goes on doubling. So seven are sent, as there, but within ten seconds and not within 32: on a way
/// that loses a quarter in each direction one trunk in 300 would not come about, with doubling one in 60.
pub const CHECK_RETRY_MAX: Duration = Duration::from_secs(2);

/// When no remote address has answered for this long, none will. Longer keeps control from trying something else.
pub const CHECKS_GIVEN_UP: Duration = Duration::from_secs(10);

/// RFC 7675 §5.1: consent is asked for every 5 s, 0.8 to 1.2 times that at random. The shortest,
pub const CONSENT_CHECK_MIN: Duration = Duration::from_secs(4);

/// and what the longest has more.
pub const CONSENT_CHECK_SPREAD: Duration = Duration::from_secs(2);

const _: () = assert!(
    CHECK_RETRY.as_millis() >= CHECK_PACE.as_millis() * REMOTES_MAX as u128,
    "RFC 8445 §14.3: a check is not repeated before all others had their turn"
);
const _: () = assert!(
    CONSENT.as_millis() >= 5 * (CONSENT_CHECK_MIN.as_millis() + CONSENT_CHECK_SPREAD.as_millis()),
    "consent outlives three losses in a row"
);

// ── Audio ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Active speakers told at once. More is noise: people talk one at a time.
pub const SPEAKERS_MAX: usize = 5;

/// A smoothed level at least this loud, in -dBov, is speech. Louder leaves out who sits far from the microphone, quieter takes
/// a fan for a speaker.
pub const SPEECH_LEVEL: u8 = 50;

/// How fast the smoothed level follows a louder one. Shorter takes a cough for speech, longer costs the first syllable.
pub const LEVEL_ATTACK: Duration = Duration::from_millis(50);

/// And a quieter one. Shorter ends speech between two syllables, longer makes a cough last.
pub const LEVEL_RELEASE: Duration = Duration::from_millis(150);

/// Longer than two packets are ever apart while somebody speaks; then the level begins to fall by itself.
pub const LEVEL_SILENT: Duration = Duration::from_millis(100);

/// Who is to be the new speaker must have been louder for this long. Shorter lets laughter change the picture, longer shows
/// the question's asker when the answer is half over.
pub const SPEAKER_LOUDER: Duration = Duration::from_millis(300);

/// Who is quiet for this long has stopped speaking.
pub const SPEAKER_QUIET: Duration = Duration::from_secs(1);

/// Between two messages about who speaks.
pub const SPEAKERS_INTERVAL: Duration = Duration::from_millis(300);

/// How often it is looked at who speaks, while anybody can be heard.
pub const VOICES_LOOKED_AT: Duration = Duration::from_millis(50);

/// One of the loudest keeps its place this long after it stopped speaking, so that a dialogue of more people than there are
/// places does not cut words; longer keeps others out.
pub const VOICE_HELD: Duration = Duration::from_secs(2);

/// Of so many voices are the loudest forwarded in a large conference: more than can be understood at once.
pub const VOICES_LOUDEST: usize = 5;

/// Microphones of one conference up to which all are forwarded. A silent one costs little where the sender stops sending
/// (DTX), 50 packets a second where it does not; each is sent to everybody else.
pub const VOICES_ALL_UP_TO: usize = 20;

// ── Layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A layer that was silent this long while others flowed is given up. Browsers send 3 frames a second in the slowest
/// screen-share layer; shorter would flap, longer shows as a freeze.
pub const LAYER_SILENT: Duration = Duration::from_secs(2);

/// How often the layers of a track are looked at while packets come.
pub const LAYER_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A keyframe whose first packet is this many packets behind the newest is still used; later ones are not, unless nothing
/// has been sent yet.
pub const KEYFRAME_LATE_PACKETS: u64 = 3;

/// A layer that nobody has needed for this long may be paused. Shorter lets layers come and go while somebody resizes a
/// window, longer wastes the publisher's way up.
pub const LAYER_UNUSED: Duration = Duration::from_secs(5);

/// A switch whose timestamp would go back by more than this is refused and another keyframe asked for.
pub const TIMESTAMP_REGRESSION: Duration = Duration::from_millis(50);

/// Sender reports that place two layers further apart than this, compared with when their packets arrived, are not
/// believed.
pub const SENDER_REPORT_DISAGREEMENT: Duration = Duration::from_secs(1);

// ── Keyframe requests ───────────────────────────────────────────────────────────────────────────────────────────────────

/// Between two requests to the same layer. Shorter makes encoders spend their rate on keyframes, longer freezes.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// The same for the lowest layer: its keyframes are small, and it is what everyone falls back to.
pub const KEYFRAME_INTERVAL_LOWEST: Duration = Duration::from_millis(200);

/// Keyframes that one subscription may cause at once by its requests. Fewer would leave a decoder on a very bad way without;
/// more lets one subscriber fill a layer with keyframes, which all others who watch it pay for.
pub const KEYFRAME_WISHES_MAX: u32 = 6;

/// And one more after each such time.
pub const KEYFRAME_WISH_INTERVAL: Duration = Duration::from_secs(2);

/// Nothing is sent again to a subscriber that asked for a keyframe for this long: the keyframe makes it useless. When the
/// keyframe takes longer, what is missing may come first after all.
pub const KEYFRAME_AWAITED: Duration = Duration::from_millis(250);

/// A keyframe request that comes within a round trip and this time after a keyframe went out is answered by that keyframe: its
/// last packets and their decoding take longer than its first one.
pub const KEYFRAME_DECODED: Duration = Duration::from_millis(50);

/// Longer round trips are not believed there: a request that is ignored is repeated only after some 200 ms.
pub const KEYFRAME_ON_ITS_WAY_MAX: Duration = Duration::from_millis(250);

// ── Retransmission ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// A packet is not sent again sooner than this after the last time, even if the round trip is shorter.
pub const RESEND_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// And never has to wait longer than this.
pub const RESEND_INTERVAL_MAX: Duration = Duration::from_millis(100);

/// A packet is sent again at most this often.
pub const RESENDS_MAX: u8 = 3;

/// More missing packets than this in one report mean one keyframe request instead.
pub const NACK_LIST_MAX: usize = 250;

/// Resends of one transport in one batch, so that a flood of NACKs costs no more than a burst.
pub const RESENDS_PER_BATCH: u32 = 64;

/// Transport-wide numbers of one transport of which is remembered what left under them: 1024 × 16 bytes, a second at 10 Mb/s.
/// Feedback comes four times a second or more.
pub const DEPARTURES: usize = 1024;

/// The first packet of a picture subscription is sent again this often: who does not get it, cannot know that it lacks it, and
/// waits for the next keyframe. More only costs a packet.
pub const OPENING_REPEATS: u8 = 2;

/// What is sent again unasked, is sent again after this time: long enough to outlive a short burst of losses, much shorter
/// than a round trip and than a decoder's patience (200 ms).
pub const REPEAT_INTERVAL: Duration = Duration::from_millis(10);

/// On a way that loses so much, the first resend of a packet is repeated. Below, a second loss is too rare to pay for; above, two
/// for one would be more than resends may take of a subscriber's rate.
pub const REPEAT_LOSS: std::ops::RangeInclusive<f32> = 0.02..=0.07;

/// Packets that wait to be sent again unasked, of all subscriptions; those that come when it is full go without.
pub const REPEATS_MAX: usize = 1024;

/// Padding that makes a datagram as long as the run before it. Encoders cut a frame into packets that differ by a byte or
/// two; more would be paid for with bandwidth.
pub const RUN_PADDING_MAX: usize = 3;

/// A hole in a publisher's numbers is reported missing after this time, or after a quarter of the round trip; packets that
/// merely changed places have come by then.
pub const NACK_REORDER_MIN: Duration = Duration::from_millis(10);

/// But not later than this: on a long way each millisecond is missed, and a report too many costs one packet.
pub const NACK_REORDER_MAX: Duration = Duration::from_millis(20);

/// And reported again after 1.1 times what an answer takes, and this. Chromium does not repeat a packet again within 5 ms and
/// its idea of the round trip: a report that comes a moment before would be lost, and another round trip with it.
pub const NACK_RETRY_SLACK: Duration = Duration::from_millis(10);

/// Where so many reports go unanswered each is sent twice: reports are small, and a lost one costs a round trip. Less would
/// double them for one loss in a while, more would leave a way that loses 3 % to its luck.
pub const NACK_UNANSWERED: f32 = 1.0 / 24.0;

/// The second one this much later: bursts of losses are shorter, round trips longer. Publishers that take it for another
/// report send the packet twice; Chromium does not.
pub const NACK_REPEAT: Duration = Duration::from_millis(10);

/// At most this often.
pub const NACK_TRIES_MAX: u8 = 10;

/// And until it is this old.
pub const NACK_AGE_MAX: Duration = Duration::from_secs(1);

// ── Round trips ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What is assumed before the first report.
pub const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(100);

/// Longer ones are not believed.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// The shortest round trip is of at least this time and of at most twice this: shorter takes a queue for the way, longer is
/// late to see that the way has become longer.
pub const ROUND_TRIP_WINDOW: Duration = Duration::from_secs(10);

// ── Reports ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Transport-wide feedback goes out this long after the first packet that it speaks of. 50 to 100 ms between two is what
/// estimators are tuned for, and a slow stream adds its own interval.
pub const FEEDBACK_INTERVAL: Duration = Duration::from_millis(75);

/// Packets of one feedback message; more are sent in another one.
pub const FEEDBACK_PACKETS_MAX: usize = 400;

/// Receiver and sender reports go out this often while packets flow.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What subscribers get, why, and which layers are needed is looked at this often while anything moves. Shorter costs events,
/// longer lets a person wait for an answer.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// Timers are looked at no more often than this: finer costs wake-ups, coarser delays NACKs.
pub const TICK: Duration = Duration::from_millis(5);

// ── Bandwidth ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Packets with transport-wide numbers that a transport remembers: 1.6 s at 10 Mb/s, for the round trip, the queue and the
/// interval of feedback. 48 KiB a subscriber.
pub const FLIGHT_PACKETS: usize = 2048;

/// Statuses of one feedback that are looked at. What is left out counts as neither arrived nor lost.
pub const FEEDBACK_STATUSES_MAX: usize = FLIGHT_PACKETS;

/// What a subscriber can be sent until its feedback says more: one good picture. More fills the queue of a slow link before
/// anything is known of it, less makes the first pictures on a fast one worse than they need be.
pub const ESTIMATE_START_BPS: u64 = 2_000_000;

/// Nobody is taken to have less: audio, and the probes that find out about more.
pub const ESTIMATE_MIN_BPS: u64 = 50_000;

/// Nobody is taken to have more: what a subscriber of 64 tracks may want. Higher lets a liar draw more.
pub const ESTIMATE_MAX_BPS: u64 = 100_000_000;

/// A subscriber that negotiated feedback and has sent none for this long after the first packet will not: it is not limited.
/// Browsers send it every 50 to 250 ms.
pub const FEEDBACK_UNHEARD: Duration = Duration::from_secs(1);

/// A ceiling (REMB) holds this long. Who sends them repeats them every second or so.
pub const REMB_LASTS: Duration = Duration::from_secs(10);

/// A probe tries this many times the estimate. More finds a fast link sooner and fills the queue of a slow one more.
pub const PROBE_STEP: f64 = 2.0;

/// A probe lasts at least so long: four bursts behind the first, for jitter to matter less.
pub const PROBE_DURATION: Duration = Duration::from_millis(20);

/// And has at least so many bytes, at whatever rate.
pub const PROBE_BYTES_MIN: u64 = 3000;

/// After a probe that found the way full. Shorter finds a way that has become wider sooner, and takes a larger part of one
/// that has not.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// After the estimate went down: what it was before may have been right.
pub const PROBE_AFTER_BACK_OFF: Duration = Duration::from_millis(1500);

/// A probe of which nothing was heard for this long has failed.
pub const PROBE_GIVEN_UP: Duration = Duration::from_secs(1);

/// While a probe fills the queue on purpose, a growing queue is no sign; but not for longer than this.
pub const PROBE_CONCLUSION: Duration = Duration::from_millis(400);

/// What a layer takes is its average over this time. Longer smooths keyframes, shorter follows a screen that begins to move.
pub const RATE_WINDOW: Duration = Duration::from_secs(2);

/// More for somebody must fit into this part of what can be given.
pub const ALLOCATION_MARGIN: f64 = 0.95;

/// And what somebody has may take this part of it: rates and estimates vary.
pub const ALLOCATION_TOLERANCE: f64 = 1.05;

/// What only a guess says to be too much may take so many times of it until it has been measured, which takes half a second. Less
/// stops pictures that would fit: at its beginning a camera takes less than its size lets one think. More fills the queue of a slow
/// way with pictures that have nothing smaller.
pub const ALLOCATION_GUESSED: f64 = 2.0;

/// After somebody got less, the estimate must have grown by this factor before anybody gets more. Less lets pictures go up
/// and down with the estimate's own steps.
pub const RISE_AT: f64 = 1.15;

/// By this factor, and what failed before does not matter: it is another way now.
pub const RISE_SURELY_AT: f64 = 2.0;

/// Or this time must have passed. A rise that lasts as long was none too much.
pub const RISE_AFTER: Duration = Duration::from_secs(10);

/// What was paused goes on after this time, if it fits: nothing at all is worse than a step too much.
pub const RESUME_AFTER: Duration = Duration::from_secs(2);

/// After a rise that was too much, nobody gets more for this time; doubled each time in a row.
pub const RISE_FAILED: Duration = Duration::from_secs(4);

/// So many times.
pub const RISE_FAILURES_MAX: u32 = 5;

/// Resends leave in bursts of what the target rate gives in this time. Longer makes them arrive sooner, and what they queue
/// behind later.
pub const PACED_BURST: Duration = Duration::from_millis(5);

/// Resends are at most this part of what a subscriber can be sent. More helps at high loss, and makes congestion worse.
pub const RESEND_SHARE: f64 = 0.15;

/// Taken over this time: losses come in bursts.
pub const RESEND_SHARE_OVER: Duration = Duration::from_secs(1);

/// What resends are counted against at a subscriber without a limit.
pub const RESEND_UNLIMITED_BPS: u64 = 10_000_000;

/// Resends of one transport that wait for their turn: at 1 Mb/s they are sent within half a second, later than which nobody
/// needs them.
pub const RESENDS_WAITING_MAX: usize = 64;

/// Pictures of one subscriber that its bandwidth is given out to; it gets no more. As many as control lets a participant
/// subscribe to by default.
pub const PICTURES_MAX: usize = 512;

/// A picture whose rate nobody has measured yet is taken to need so many bits a second for each pixel: browsers' own limits
/// for their simulcast layers are about that.
pub const PIXEL_BITS: u64 = 2;

/// What a subscriber gets is decided at most this often, but for what it asks for itself.
pub const ALLOCATION_INTERVAL: Duration = Duration::from_millis(100);

/// And at the next tick when its target has changed by this part. Less decides more often, on the same.
pub const ALLOCATION_CHANGE: f64 = 0.03;

/// Probes look for this many times of what pictures take: keyframes and moving pictures need room, and a tile that becomes
/// larger finds it there.
pub const GOAL_HEADROOM: f64 = 1.5;

/// While probes find more and more, nobody gets more before they have found the end; but for no longer than this.
pub const RISING_MAX: Duration = Duration::from_millis(800);

/// If packets wait this long on the way, and this many times the target is sent, what flows is stopped before its
/// successor's keyframe is there. Less makes pictures stand where they need not, more delays sound.
pub const CUT_WAIT: Duration = Duration::from_millis(80);
/// See [`CUT_WAIT`].
pub const CUT_AT: f64 = 1.3;

/// The first decision then gives out this part of the target: the queue has to empty as well, and a second step down would need
/// another keyframe.
pub const CUT_SHARE: f64 = 0.7;

/// Statuses of transport-wide feedback that are looked at each second: twice what 100 Mb/s have.
pub const FEEDBACK_STATUSES_PER_SECOND: u32 = 20_000;

/// Packets of padding that one tick of a probe has at most: more than 100 Mb/s are.
pub const PROBE_PACKETS_MAX: usize = 512;
