import type { InfermuxError } from '../../common/errors.js';
import { isNested, type RoutedRequest } from '../pending-request.js';

/** Whether requests are accepted. */
export class Admission {
  /** Why no replica runs and none could be started; undefined otherwise. */
  outage: InfermuxError | undefined;
  #refusal: InfermuxError | undefined;
  #isDestroyed = false;

  /** Refuses requests from now on, but for those that accepted ones ask for in turn: they are part of them. */
  close(refusal: InfermuxError): void {
    this.#refusal ??= refusal;
  }

  /** Refuses all requests from now on. */
  destroy(refusal: InfermuxError): void {
    this.close(refusal);
    this.#isDestroyed = true;
  }

  get isClosed(): boolean {
    return this.#refusal !== undefined;
  }

  /** Why the request is not accepted; undefined when it is. */
  refusalOf(request: RoutedRequest): InfermuxError | undefined {
    return (this.#isDestroyed || !isNested(request) ? this.#refusal : undefined) ?? this.outage;
  }
}
