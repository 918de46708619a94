import { hashMemory } from '../protocol/hash-memory.js';
import { QueueCounters } from '../protocol/queue-counters.js';

/** Memory that the replicas of all pools share. */
export class ReplicaMemory {
  readonly counters: QueueCounters;
  readonly fileHashes = hashMemory();

  /** @param replicas most replicas that may have a thread at once, including those that are ending. */
  constructor(replicas: number) {
    this.counters = new QueueCounters(replicas);
  }
}
