// A handler of batches that tells what it knows of each request.
class BatchTerms {
  calls = [];

  async handleBatch(requests, context) {
    this.calls.push(requests.length);
    return requests.map((value, index) => ({ value, hints: context.requests[index].hints, batch: requests.length }));
  }

  get trap() {
    throw new Error('a getter was called');
  }

  pause(milliseconds) {
    return new Promise((resolve) => setTimeout(() => resolve(milliseconds), milliseconds));
  }

  async *endless(_, { signal }) {
    for (let item = 0; !signal.aborted; item += 1) {
      yield item;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  alone(value, { requests }) {
    return { value, batch: requests.length, calls: this.calls };
  }
}

export default new BatchTerms();
