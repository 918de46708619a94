import type { InfermuxError } from '../../dist/common/errors.js';

/** Resolves to how a call ends: `answered`, or the code of its error. */
export const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    ({ code }: InfermuxError) => code,
  );
