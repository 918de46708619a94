// A handler of batches that tells what it knows of each request.
class BatchTerms {
  calls = [];

  async handleBatch(requests, context) {
    this.calls.push(requests.length);
    return requests.map((value, index) => ({ value, hints: context.requests[index].hints, batch: requests.length }));
  }

  alone(value, { requests }) {
    return { value, batch: requests.length, calls: this.calls };
  }
}

export default new BatchTerms();
