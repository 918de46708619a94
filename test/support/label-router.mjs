/** Sends each request to replicas with the label `zone` of its options. */
export default class LabelRouter {
  spill = 'router';

  constructor({ zone }) {
    this.zone = zone;
  }

  chooseReplicas(candidates) {
    return [candidates.filter(({ labels }) => labels.zone === this.zone)];
  }
}
