import { Count, Distribution, type Labels } from './lines.js';

/** 0.1 ms to 10 s, in seconds. */
export const SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/** What is counted for a model with every request. */
export class ModelSeries {
  readonly name: string;
  readonly labels: Labels;
  readonly requests = new Count();
  readonly batches = new Count();
  readonly batchedRequests = new Count();
  readonly runDuration = new Distribution(SECONDS);
  readonly requestDuration = new Distribution(SECONDS);
  /** Requests accepted since the rate was last brought up to date. */
  uses = 0;
  /** Decayed number of requests. */
  rate = 0;

  constructor(name: string, labels: Labels) {
    this.name = name;
    this.labels = labels;
  }

  addTo(other: ModelSeries): void {
    this.requests.addTo(other.requests);
    this.batches.addTo(other.batches);
    this.batchedRequests.addTo(other.batchedRequests);
    this.runDuration.addTo(other.runDuration);
    this.requestDuration.addTo(other.requestDuration);
  }
}
