/*
 * What the headers of jobs and results say. Bodies are those of an inference request and of its answer over REST.
 */

/** The model, the endpoint or the deployment with a handler that is to answer. */
export const MODEL_HEADER = 'Infermux-Model';
/** The node that answered. */
export const NODE_HEADER = 'Infermux-Node';
/** Bytes of the JSON of a body, when tensors in binary form follow it. */
export const LENGTH_HEADER = 'Inference-Header-Content-Length';
/** What tells jobs with the same run and id apart, where whoever put them in says it. Results have it, too. */
export const DIGEST_HEADER = 'Infermux-Digest';
/** Why a job cannot be done: the error's code, and its message. */
export const CODE_HEADER = 'Infermux-Code';
export const REASON_HEADER = 'Infermux-Reason';
