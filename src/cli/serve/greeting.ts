import type { EngineOptions, InferenceEngine, ModelInspection } from '../../index.js';
import { datatypeOf } from '../../open-inference/datatypes.js';
import type { InferenceServer } from '../../server/server.js';
import type { Address, ServerOptions } from '../../server/server-options.js';
import { printable } from '../terminal/printable.js';

/** Elements of an input that fit on a line. */
const MOST_SHOWN = 64;
/** Elements of all inputs that fit into a request with the default limit of its body: a zero and a comma each. */
const MOST_SENT = 16_000_000;

/** What the user reads when the server is ready: where it listens, and what to try. */
export async function greeting(
  engine: InferenceEngine,
  server: InferenceServer,
  models: EngineOptions['models'],
  { tls, auth, console = true }: ServerOptions = {},
): Promise<string> {
  const ids = [...new Set(engine.models.list().map(({ id }) => id))];
  const from = models === undefined ? '' : sourceOf(models);
  const lines = [`infermux serves ${ids.length} ${ids.length === 1 ? 'model' : 'models'}${from}`];
  const { http, grpc, admin } = server;
  const scheme = tls === undefined ? 'http' : 'https';
  const urlOf = (address: Address) => `${scheme}://${hostPort(address)}`;
  // Whoever starts the server knows where its keys are.
  const key = auth?.keys === undefined ? '' : ` -H "Authorization: Bearer $KEY"`;
  if (http !== undefined) lines.push(`  REST   ${urlOf(http)}`);
  if (grpc !== undefined) lines.push(`  gRPC   ${hostPort(grpc)}`);
  if (admin !== undefined) lines.push(`  admin  ${urlOf(admin)}`);
  lines.push('Try:');
  const [first] = ids;
  if (http !== undefined && first !== undefined) {
    const url = `${urlOf(http)}/v2/models/${encodeForShell(first)}`;
    lines.push(`  ${await sampleCommand(engine, first, `curl${key} ${url}`)}`);
  }
  if (grpc !== undefined)
    lines.push(
      `  grpcurl${tls === undefined ? ' -plaintext' : ''}${key} ${hostPort(grpc)} inference.GRPCInferenceService/ServerReady`,
    );
  if (http !== undefined && console) lines.push(`  open ${urlOf(http)}/console in a browser`);
  if (http !== undefined) lines.push(`  open ${urlOf(http)}/openapi.json in a browser`);
  return `${lines.map(printable).join('\n')}\n`;
}

/**
 * Returns a command for a shell that sends a request whose elements are all zero. Node writes the request if it is too
 * long for a line. Where JSON cannot have it, the command asks for the description of the model.
 */
async function sampleCommand(engine: InferenceEngine, id: string, curl: string): Promise<string> {
  let inspection: ModelInspection;
  try {
    inspection = await engine.models.inspect(id);
  } catch {
    // A model that does not load is no reason not to start.
    return curl;
  }
  const inputs = inspection.inputs.map(({ name, type, shape }) => {
    const dims = shape.map((size) => (typeof size === 'string' ? 1 : size));
    const elements = dims.reduce((product, size) => product * size, 1);
    const zero = type === 'string' ? '' : type === 'bool' ? false : 0;
    return { head: { name, datatype: datatypeOf(type), shape: dims }, elements, zero };
  });
  const total = inputs.reduce((sum, { elements }) => sum + elements, 0);
  if (total > MOST_SENT || inputs.some(({ head }) => head.datatype === 'FP16')) return curl;
  if (inputs.every(({ elements }) => elements <= MOST_SHOWN)) {
    const body = inputs.map(({ head, elements, zero }) => ({ ...head, data: Array(elements).fill(zero) }));
    return `${curl}/infer -d ${quoteForShell(JSON.stringify({ inputs: body }))}`;
  }
  const body = inputs.map(({ head, elements, zero }) => {
    const data = `Array(${elements}).fill(${JSON.stringify(zero)})`;
    return `{...${JSON.stringify(head)},data:${data}}`;
  });
  return `node -p ${quoteForShell(`JSON.stringify({inputs:[${body}]})`)} | ${curl}/infer -d @-`;
}

/** Also escapes what a shell would read as its own. */
function encodeForShell(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
}

function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function hostPort({ host, port }: Address): string {
  const shown = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return `${shown.includes(':') ? `[${shown}]` : shown}:${port}`;
}

/** Where the models are, if that can be said in a few words. */
function sourceOf(models: NonNullable<EngineOptions['models']>): string {
  if (typeof models === 'string') return ` from ${models}`;
  return 'href' in models && typeof models.href === 'string' ? ` from ${models.href}` : '';
}
