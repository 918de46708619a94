import { hashMemory } from '../protocol/hash-memory.js';
import { QueueCounters } from '../protocol/queue-counters.js';

/** Most files whose hashes the replicas share, so that each file is hashed once: 68 bytes each. */
const HASHED_FILES = 1_024;

/** Memory that the replicas of all pools share. */
export class ReplicaMemory {
  readonly counters: QueueCounters;
  readonly fileHashes = hashMemory(HASHED_FILES);

  /** @param replicas most replicas that may have a thread at once, including those that are ending. */
  constructor(replicas: number) {
    this.counters = new QueueCounters(replicas);
  }
}
