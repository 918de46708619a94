import type { JsMsg } from '@nats-io/jetstream';
import { InfermuxError } from '../../common/errors.js';
import { LENGTH_HEADER, MODEL_HEADER } from './job-headers.js';
import { keyOf } from './job-streams.js';

/** A job as its worker gets it. */
export interface Job {
  readonly model: string;
  readonly body: Uint8Array;
  /** Bytes of its JSON, when tensors in binary form follow it. */
  readonly jsonBytes: number | undefined;
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  readonly id: string;
}

/** Reads the headers of a job. @throws InfermuxError `INVALID_ARGUMENT`. */
export function jobOf(message: JsMsg): Job {
  const { headers, data, subject } = message;
  const model = headers?.get(MODEL_HEADER) ?? '';
  if (model === '')
    throw new InfermuxError('INVALID_ARGUMENT', `the job has no header ${MODEL_HEADER}, which names the model`);
  const length = headers?.get(LENGTH_HEADER) ?? '';
  if (length !== '' && !/^\d{1,10}$/.test(length)) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `${LENGTH_HEADER} must be a number of bytes, got ${JSON.stringify(length)}`,
    );
  }
  return {
    ...{ model, body: data, jsonBytes: length === '' ? undefined : Number(length), id: keyOf(subject) },
    traceparent: headers?.get('traceparent') || undefined,
    tracestate: headers?.get('tracestate') || undefined,
  };
}
