import { InfermuxError } from 'infermux';
import { getEngine } from '../../../lib/engine';

// Threads need Node.js: not the edge runtime.
export const runtime = 'nodejs';

export async function POST(request: Request): Promise<Response> {
  const engine = await getEngine();
  try {
    const image = { dims: [1, 64], data: Float32Array.from(await request.json()) };
    const { probabilities } = await engine.run('digits-cnn', { image }, { signal: request.signal });
    const data = probabilities?.data as Float32Array;
    return Response.json({ digit: data.indexOf(Math.max(...data)) });
  } catch (error) {
    const status = error instanceof InfermuxError && error.code === 'INVALID_ARGUMENT' ? 400 : 503;
    return Response.json({ error: (error as Error).message }, { status });
  }
}
