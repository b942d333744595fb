// The few facts of a session description that the browser's API does not give: which stream and track an m-section carries.

/**
 * Reads, for every m-section that has a mid, its `a=msid` and direction as the describing side sees them.
 * @returns {Map<string, {streamId: string, trackId: string, sends: boolean}>} by mid; sections without msid are left out
 */
export function msidByMid(sdp) {
  const sections = new Map();
  for (const section of sdp.split(/\r?\n(?=m=)/).slice(1)) {
    const mid = /^a=mid:(\S+)/m.exec(section)?.[1];
    const msid = /^a=msid:(\S+) (\S+)/m.exec(section);
    if (!mid || !msid) continue;
    const direction = /^a=(sendrecv|sendonly|recvonly|inactive)\r?$/m.exec(section)?.[1] ?? "sendrecv";
    sections.set(mid, { streamId: msid[1], trackId: msid[2], sends: direction.startsWith("send") });
  }
  return sections;
}
