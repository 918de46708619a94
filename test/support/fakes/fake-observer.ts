import type { DispatcherObserver } from '../../../dist/routing/dispatcher-options.js';

/** An observer that does nothing but what it is told. */
export function fakeObserver(overrides: Partial<DispatcherObserver> = {}): DispatcherObserver {
  const nothing = () => undefined;
  return {
    busy: nothing,
    idle: nothing,
    submitted: nothing,
    accepted: nothing,
    given: nothing,
    ended: nothing,
    waited: nothing,
    answered: nothing,
    failed: nothing,
    called: nothing,
    batchingSwitchedOff: nothing,
    barred: nothing,
    expressNeeded: nothing,
    sought: nothing,
    unsought: nothing,
    insteadOf: nothing,
    routerFailed: nothing,
    ...overrides,
  };
}
