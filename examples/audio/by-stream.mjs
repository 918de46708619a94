// A router that sends all pieces of a stream to one replica, and lets them wait there: the stream's state is in it. The
// built-in `consistent-hash` goes elsewhere when that replica is busy.
import { createHash } from 'node:crypto';

/** Rendezvous hashing: when a replica comes or goes, only the streams of that replica move. */
const weight = (key, id) => createHash('md5').update(`${key} ${id}`).digest().readUInt32BE();

export default class ByStream {
  spill = 'router'; // each replica loads the model

  chooseReplicas(candidates, { shardKey }) {
    const [first] = candidates
      .map((candidate) => ({ candidate, weight: weight(shardKey, candidate.id) }))
      .sort((left, right) => right.weight - left.weight);
    return [[first.candidate]];
  }
}
