// Unit tests of the picture of the foci: what is read, and that nothing lies on top of anything else. See modules.js.

const { conferencesOf, formatLost, formatRate, readConnections } = await import("/js/connections.js");
const { lineBetween, overlap, PEOPLE_MAX, planPicture } = await import("/js/plan.js");
const { FociPicture } = await import("/js/picture.js");

const results = [];
const expect = (name, got, wanted) => {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  results.push([name, a === b, a]);
};

const flow = (video, bits, more = {}) => ({ audio: video, video, packets_per_second: bits / 8_000, bits_per_second: bits, lost: null, ...more });
const person = (name) => ({ user_id: `@${name}:x`, device_id: "D", from: flow(1, 800_000), to: flow(5, 2_400_000), round_trip_ms: 1 });
const trunk = (to, state, there, back, roundTrip = null) =>
  ({ user_id: `@focus${to}:x`, device_id: "F", state, to: there, from: back, round_trip_ms: roundTrip });
const focus = (number, people, trunks, more = {}) => ({
  user_id: `@focus${number}:x`, device_id: "F", state: "up", left_out: 0,
  conferences: [{ conference: "c1", participants: people.map(person), trunks }], ...more,
});
const key = (number) => `@focus${number}:x F`;

const two = { foci: [
  focus(1, ["alice", "bob"], [trunk(2, "up", flow(2, 1_000_000, { lost: 0.5 }), flow(1, 400_000, { lost: 0.25 }), 12)]),
  focus(2, ["carol"], [trunk(1, "up", flow(1, 500_000), flow(2, 900_000, { lost: 0.1 }), 14)]),
] };
const read = readConnections(two, "c1");
expect("people are at their focus", read.foci.map(({ name, people }) => [name, people.map((of) => of.name)]), [["focus1", ["alice", "bob"]], ["focus2", ["carol"]]]);
expect("what comes from a person, it sends", [read.foci[0].people[0].sends.bits, read.foci[0].people[0].gets.video], [800_000, 5]);
expect("one trunk of two ends", read.trunks.map(({ ends, state, roundTrip }) => [ends, state, roundTrip]), [[[key(1), key(2)], "up", 12]]);
expect("who sends knows what flows, who gets it what is lost", read.trunks[0].flows.map(({ video, bits, lost }) => [video, bits, lost]), [
  [2, 1_000_000, 0.1],
  [1, 500_000, 0.25],
]);

const half = { foci: [two.foci[0], { ...focus(2, [], []), state: "gone", conferences: [] }] };
const lost = readConnections(half, "c1");
expect("a trunk to a focus that is gone is lost", [lost.foci[1].state, lost.foci[1].people, lost.trunks[0].state], ["gone", [], "lost"]);
expect("what it got is known to the other end", lost.trunks[0].flows[1].bits, 400_000);
const alone = readConnections({ foci: [two.foci[0]] }, "c1");
expect("a focus that was not asked is elsewhere", alone.foci.map(({ name, state }) => [name, state]), [["focus1", "up"], ["focus2", "elsewhere"]]);
const state = (one, other) => {
  const ends = [trunk(2, one, flow(0, 0), flow(0, 0)), trunk(1, other, flow(0, 0), flow(0, 0))];
  return readConnections({ foci: [focus(1, [], [ends[0]]), focus(2, [], other === null ? [] : [ends[1]])] }, "c1").trunks[0].state;
};
expect("the worse of two ends counts", [state("up", "connecting"), state("calling", "wanted"), state("lost", "up"), state("up", null), state("up", "odd")], ["connecting", "calling", "lost", "up", "lost"]);
expect("the conference with most people comes first", conferencesOf({ foci: [
  { conferences: [{ conference: "a", participants: [{}] }, { conference: "b", participants: [{}] }] },
  { conferences: [{ conference: "b", participants: [{}] }] },
] }), [{ name: "b", people: 2 }, { name: "a", people: 1 }]);
expect("nonsense is nothing", [readConnections({ foci: [7, null] }, "c1").foci, conferencesOf(null)], [[], []]);
expect("rates and losses in words", [formatRate(312_400), formatRate(1_250_000), formatRate(null), formatLost(0), formatLost(0.024), formatLost(0.5), formatLost(null)],
  ["312 kbit/s", "1.3 Mbit/s", "", "0 % lost", "2.4 % lost", "50 % lost", ""]);

/** So many foci, all connected, each with so many people. */
const full = (foci, people) => {
  const numbers = Array.from({ length: foci }, (_, index) => index + 1);
  const names = (number) => Array.from({ length: people }, (_, index) => `p${number}-${index}`);
  const trunks = (number) => numbers.filter((other) => other !== number).map((other) => trunk(other, "up", flow(3, 1_000_000), flow(3, 1_000_000), 5));
  return { foci: numbers.map((number) => focus(number, names(number), trunks(number))) };
};
const overlaps = (foci, people) => {
  const plan = planPicture(readConnections(full(foci, people), "c1"));
  const labels = [...plan.trunks.values()].flatMap(({ flows, middle }) => [...flows.filter(Boolean), middle]);
  const boxes = [...plan.foci.values(), ...plan.people.map(({ box }) => box), ...labels];
  const clash = boxes.some((box, index) => boxes.slice(0, index).some((other) => overlap(box, other)));
  return [boxes.length, clash];
};
expect("three foci with three people each: nothing lies on anything", overlaps(3, 3), [3 + 9 + 9, false]);
for (const [foci, people] of [[1, 0], [1, 5], [1, 10], [2, 1], [2, 5], [3, 1], [3, 2], [3, 5], [4, 3]]) {
  expect(`${foci} foci with ${people} people each: nothing lies on anything`, overlaps(foci, people)[1], false);
}
expect("eight foci are drawn, with one label for each trunk", overlaps(8, 1)[0], 8 + 8 + 28);
const crowded = planPicture(readConnections(full(2, 25), "c1"));
expect("a crowd is counted, not drawn", [crowded.people.length, crowded.people.filter(({ person }) => person === null)[0].more], [2 * PEOPLE_MAX, 25 - PEOPLE_MAX + 1]);
expect("lines end at the boxes' edges, beside each other", [lineBetween({ x: 0, y: 0, width: 100, height: 40 }, { x: 400, y: 0, width: 100, height: 40 }, 5)], [{ x1: 54, y1: 5, x2: 346, y2: 5 }]);

const place = document.createElement("div");
document.body.append(place);
const picture = new FociPicture(place);
picture.start();
picture.draw(full(3, 2));
const count = (selector) => place.querySelectorAll(selector).length;
expect("foci, people and trunks are drawn", [".focus", ".person", ".middle", ".flow", ".trunk.flows"].map(count), [3, 6, 3, 6, 6]);
const kept = place.querySelector(".focus");
const said = full(3, 2);
said.foci[0].conferences[0].participants.pop();
said.foci[2] = { ...said.foci[2], state: "gone", conferences: [] };
picture.draw(said);
expect("what is gone goes, the rest stays what it is", [count(".person"), count(".focus[data-state=gone]"), count(".middle[data-state=lost]"), place.querySelector(".focus") === kept], [3, 1, 2, true]);
expect("a name is text and nothing else", (() => {
  picture.draw({ foci: [focus(1, ["<img src=x>"], [])] });
  return [count("img"), place.querySelector(".person text").textContent];
})(), [0, "<img src=x>"]);
picture.stop();
expect("stopped, it leaves nothing", place.childElementCount, 0);
place.remove();

return results;
