import { Count, Distribution, type Labels } from './lines.js';

/** What is counted for a model with every request. */
export class ModelSeries {
  readonly name: string;
  readonly labels: Labels;
  readonly requests = new Count();
  readonly batches = new Count();
  readonly batchedRequests = new Count();
  readonly errors = new Count();
  /** Seconds for which answered requests waited for a replica and for the model. */
  readonly waited = new Count();
  readonly runDuration: Distribution;
  readonly requestDuration: Distribution;
  /** Requests accepted since the rate was last brought up to date. */
  uses = 0;
  /** Decayed number of requests. */
  rate = 0;

  /** @param seconds bounds of the buckets. */
  constructor(name: string, labels: Labels, seconds: readonly number[]) {
    this.runDuration = new Distribution(seconds);
    this.requestDuration = new Distribution(seconds);
    this.name = name;
    this.labels = labels;
  }

  addTo(other: ModelSeries): void {
    this.requests.addTo(other.requests);
    this.errors.addTo(other.errors);
    this.waited.addTo(other.waited);
    this.batches.addTo(other.batches);
    this.batchedRequests.addTo(other.batchedRequests);
    this.runDuration.addTo(other.runDuration);
    this.requestDuration.addTo(other.requestDuration);
  }
}
