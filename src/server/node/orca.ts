import protobuf from 'protobufjs/minimal.js';
import type { NodeLoad } from './node-load.js';

/*
 * Load reports in the forms of Open Request Cost Aggregation, as Envoy, gRPC and Triton know them: header
 * `endpoint-load-metrics` of an answer over HTTP, trailing metadata `endpoint-load-metrics-bin` over gRPC.
 */

/** A client that sends it gets a report with each answer: `text` or `json` over HTTP, any value over gRPC. */
export const ORCA_FORMAT = 'endpoint-load-metrics-format';
export const ORCA_HEADER = 'endpoint-load-metrics';
export const ORCA_METADATA = 'endpoint-load-metrics-bin';

/** Fields of `xds.data.orca.v3.OrcaLoadReport`, by their numbers. */
const FIELDS = { cpu_utilization: 1, mem_utilization: 2, rps_fractional: 6, eps: 7 } as const;
const NAMED_METRICS = 8;
const FIXED64 = 1;
const BYTES = 2;

interface Report {
  readonly fields: Readonly<Record<keyof typeof FIELDS, number>>;
  readonly named: Readonly<Record<string, number>>;
}

function reportOf({ cpu, memory, requestsPerSecond, errorsPerSecond, ongoing, queued, delayMs }: NodeLoad): Report {
  const fields = { cpu_utilization: cpu, mem_utilization: memory, rps_fractional: requestsPerSecond };
  return { fields: { ...fields, eps: errorsPerSecond }, named: { ongoing, queued, delay_ms: delayMs } };
}

/** Returns the value of the header; undefined for a format that nobody knows. */
export function orcaHeader(format: unknown, load: NodeLoad): string | undefined {
  const { fields, named } = reportOf(load);
  if (format === 'json') return `JSON ${JSON.stringify({ ...rounded(fields), named_metrics: rounded(named) })}`;
  if (format !== 'text') return undefined;
  const pairs = [
    ...Object.entries(rounded(fields)),
    ...Object.entries(rounded(named)).map(([name, value]) => [`named_metrics.${name}`, value] as const),
  ];
  return `TEXT ${pairs.map(([name, value]) => `${name}=${value}`).join(',')}`;
}

/** Returns the message `OrcaLoadReport`. */
export function orcaMessage(load: NodeLoad): Uint8Array {
  const { fields, named } = reportOf(load);
  const writer = protobuf.Writer.create();
  for (const [name, value] of Object.entries(fields)) {
    writer.uint32(FIELDS[name as keyof typeof FIELDS] * 8 + FIXED64).double(value);
  }
  for (const [name, value] of Object.entries(named)) {
    const entry = writer.uint32(NAMED_METRICS * 8 + BYTES).fork();
    entry
      .uint32(8 + BYTES)
      .string(name)
      .uint32(16 + FIXED64)
      .double(value)
      .ldelim();
  }
  return writer.finish();
}

const rounded = (fields: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, Math.round(value * 1e4) / 1e4]));
