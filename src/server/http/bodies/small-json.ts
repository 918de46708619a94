import { refusal } from '../../../open-inference/error-statuses.js';
import { countJsonValues } from '../../../open-inference/json/json-size.js';
import type { BodyReader } from './body-reader.js';

/** What a value of JSON takes in memory, about. */
const BYTES_OF_A_VALUE = 64;
/** `JSON.parse` of more values, and what is done with them, would keep all others waiting. */
const MOST_VALUES = 65_536;

/**
 * Returns JSON that is to be parsed in one go, and counts the memory that its values will take.
 *
 * @throws InfermuxError for too many values; `QUEUE_FULL` when there is no room for them.
 */
export function checkedJson(bytes: Buffer, body: BodyReader): Buffer {
  const values = countJsonValues(bytes);
  if (values > MOST_VALUES)
    throw refusal('too large', `the JSON must have at most ${MOST_VALUES} values, got ${values}`);
  body.takeMore(values * BYTES_OF_A_VALUE);
  return bytes;
}
