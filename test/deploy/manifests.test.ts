import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import YAML from 'yaml';
import { connect } from '../../dist/client/index.js';
import { freePort } from '../support/cluster/hosts.js';
import { until } from '../support/cluster/programs.js';
import { directory } from '../support/directories.js';
import { kubernetesFaults } from '../support/schemas/kubernetes.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CLI = join(ROOT, 'dist/cli/main.js');

interface Named {
  readonly name: string;
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: number | string };
}

interface Container {
  readonly args: readonly string[];
  readonly image: string;
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
  readonly startupProbe: Probe;
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
  readonly securityContext: Readonly<Record<string, unknown>>;
}

// biome-ignore lint/suspicious/noExplicitAny: objects of several kinds.
const read = (file: string): any[] =>
  YAML.parseAllDocuments(readFileSync(join(ROOT, 'deploy', file), 'utf8'), { strict: true, uniqueKeys: true }).map(
    (document) => {
      expect([...document.errors, ...document.warnings]).toStrictEqual([]);
      return document.toJS();
    },
  );

const KUSTOMIZATIONS = ['kubernetes', 'kubernetes-proxy', 'kubernetes-jobs'];
const manifestsIn = (folder: string) =>
  readdirSync(join(ROOT, 'deploy', folder)).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml');
// A patch is no whole object.
const plain = KUSTOMIZATIONS.flatMap((folder) => manifestsIn(folder).map((file) => `${folder}/${file}`)).filter(
  (file) => file !== 'kubernetes-proxy/announce.yaml',
);
const runtimes = ['', '-models'].flatMap((name) => read(`kserve/cluster-serving-runtime${name}.yaml`));
const services = read('kserve/inference-service.yaml');
const [deployment] = read('kubernetes/deployment.yaml');
const pod = deployment.spec.template.spec;

describe('the manifests of plain Kubernetes', () => {
  it.each(plain)('%s has the keys and kinds of values of the API', async (file) => {
    for (const object of read(file)) {
      expect(await kubernetesFaults(`${object.apiVersion} ${object.kind}`, object)).toStrictEqual([]);
    }
  });

  it('would be refused with a misspelt key or a wrong kind of value', async () => {
    const wrong = (change: (object: typeof deployment) => void) => {
      const copy = structuredClone(deployment);
      change(copy);
      return kubernetesFaults('apps/v1 Deployment', copy);
    };
    expect(await wrong(({ spec }) => (spec.replica = 2))).toStrictEqual(['/spec/replica: no such key']);
    expect(await wrong(({ spec }) => (spec.template.spec.containers[0].readinessProb = {}))).toHaveLength(1);
    expect(await wrong(({ spec }) => (spec.replicas = 'two'))).not.toStrictEqual([]);
  });

  it.each(KUSTOMIZATIONS)('%s/kustomization.yaml names all that is there', (folder) => {
    const [{ resources, patches = [], configMapGenerator = [] }] = read(`${folder}/kustomization.yaml`);
    const named = [...resources, ...patches.map(({ path }: { path: string }) => path)];
    expect(named.filter((name: string) => !name.startsWith('../')).sort()).toStrictEqual(manifestsIn(folder).sort());
    for (const name of [...resources, ...configMapGenerator.flatMap(({ files }: { files: string[] }) => files)])
      expect(existsSync(join(ROOT, 'deploy', folder, name)), name).toBe(true);
  });

  it('have a patch for containers that are there', () => {
    const [patch] = read('kubernetes-proxy/announce.yaml');
    expect(patch.metadata.name).toBe(deployment.metadata.name);
    const names = ({ spec }: typeof deployment) => spec.template.spec.containers.map(({ name }: Named) => name);
    expect(names(patch)).toStrictEqual(names(deployment));
  });

  it('have a configuration of HAProxy that the commands of the proxy make', () => {
    const [proxy, service] = read('kubernetes-proxy/proxy.yaml');
    const { containers, volumes } = proxy.spec.template.spec;
    const [haproxy, follower] = containers;
    const env = { ...process.env, INFERMUX_NATS: 'nats://nats:4222' };
    const made = execFileSync(process.execPath, [CLI, ...follower.args, '--once'], { env, encoding: 'utf8' });
    expect(readFileSync(join(ROOT, 'deploy/kubernetes-proxy/haproxy.cfg'), 'utf8')).toBe(made);
    // It listens where the service looks, and its socket is in a volume that both have.
    for (const { containerPort } of haproxy.ports) expect(made).toContain(`bind 0.0.0.0:${containerPort}`);
    expect(service.spec.selector).toStrictEqual(proxy.spec.template.metadata.labels);
    for (const { volumeMounts } of containers)
      expect(volumeMounts).toContainEqual({ name: 'socket', mountPath: '/run/haproxy' });
    expect(made).toContain('stats socket /run/haproxy/infermux.sock');
    expect(volumes.map(({ name }: Named) => name)).toStrictEqual(['config', 'socket']);
  });

  it('have workers whose arguments the command takes', () => {
    const [worker] = read('kubernetes-jobs/worker.yaml');
    const [{ args, env: variables }] = worker.spec.template.spec.containers;
    expect(variables.map(({ name }: Named) => name)).toStrictEqual(['INFERMUX_NATS', 'INFERMUX_NODE_NAME']);
    // Nobody answers there: all else was right by then.
    const env = { ...process.env, INFERMUX_NATS: 'nats://127.0.0.1:1', INFERMUX_NODE_NAME: 'pod' };
    const { status, stderr } = spawnSync(process.execPath, [CLI, ...args], { env, encoding: 'utf8' });
    expect([status, stderr]).toStrictEqual([1, expect.stringContaining('no NATS server answers at 127.0.0.1:1')]);
    const grace = Number(/--grace=(\d+)/.exec(args.join(' '))?.[1]);
    expect(grace).toBeLessThan(worker.spec.template.spec.terminationGracePeriodSeconds);
  });

  it('name each other rightly', () => {
    const [autoscaler] = read('kubernetes/autoscaler.yaml');
    expect(autoscaler.spec.scaleTargetRef.name).toBe(deployment.metadata.name);
    const { app } = deployment.spec.template.metadata.labels;
    for (const { spec } of [...read('kubernetes/service.yaml'), ...read('kubernetes/disruption-budget.yaml')]) {
      expect(spec.selector.matchLabels ?? spec.selector).toStrictEqual({ app });
    }
  });
});

describe('the manifests of KServe', () => {
  // Its definitions are in no package: what it embeds of Kubernetes is held against the API, the rest against its documents.
  const KEYS = ['supportedModelFormats', 'protocolVersions', 'annotations', 'containers', 'volumes'];

  it.each(runtimes.map((runtime) => [runtime.metadata.name, runtime]))('%s is a runtime', async (_, { spec }) => {
    expect(Object.keys(spec)).toStrictEqual(KEYS);
    expect(spec.protocolVersions).toStrictEqual(['v2', 'grpc-v2']);
    for (const format of spec.supportedModelFormats) expect(format).toMatchObject({ name: 'onnx', version: '1' });
    const [container] = spec.containers;
    expect(container.name).toBe('kserve-container');
    expect(await kubernetesFaults('Container', container)).toStrictEqual([]);
    for (const volume of spec.volumes) expect(await kubernetesFaults('Volume', volume)).toStrictEqual([]);
    expect(spec.annotations['prometheus.kserve.io/port']).toBe(String(container.ports[0].containerPort));
  });

  it('has services that name a runtime which is there, and a time to end that is enough', () => {
    const names = runtimes.map(({ metadata }) => metadata.name);
    for (const { spec } of services) {
      expect(names).toContain(spec.predictor.model.runtime);
      expect(spec.predictor.terminationGracePeriodSeconds).toBeGreaterThan(5 + 30);
    }
    expect(JSON.stringify(services[0])).toContain('infermux_queued_requests');
  });
});

describe('the container', () => {
  const dockerfile = readFileSync(join(ROOT, 'deploy/Dockerfile'), 'utf8');

  it('runs as a user without rights, and copies only what is there', () => {
    expect(dockerfile).toMatch(/^USER 65532:65532$/m);
    expect(dockerfile).toMatch(/^FROM gcr.io\/distroless\/.*:nonroot$/m);
    expect(dockerfile).toContain('/app/node_modules/infermux/dist/cli/main.js');
    const kept = readFileSync(join(ROOT, 'deploy/Dockerfile.dockerignore'), 'utf8').match(/(?<=^!).+$/gm) ?? [];
    for (const name of kept) expect(existsSync(join(ROOT, name)), name).toBe(true);
  });

  /** The environment that the image gives. */
  const imageEnv = Object.fromEntries(
    [...(/^ENV (.+)$/m.exec(dockerfile)?.[1] ?? '').matchAll(/(\w+)=(\S+)/g)].map((match) => [
      match[1] as string,
      match[2] as string,
    ]),
  );

  const cases: [string, Container, 'one' | 'many'][] = [
    ['of plain Kubernetes', pod.containers[0], 'many'],
    ['of KServe for one model', runtimes[0].spec.containers[0], 'one'],
    ['of KServe for many models', runtimes[1].spec.containers[0], 'many'],
  ];

  it.each(cases)(
    '%s runs with its command, its probes and its mounts, without rights',
    async (_, container, layout) => {
      const mounts = directory();
      const [models, tmp] = [join(mounts, 'models'), join(mounts, 'tmp')];
      mkdirSync(tmp);
      chmodSync(tmp, 0o777);
      chmodSync(mounts, 0o755);
      const source = join(ROOT, 'native-models/digits-mlp/model.onnx');
      mkdirSync(join(models, layout === 'one' ? '1' : 'digits-mlp/1'), { recursive: true });
      cpSync(source, join(models, layout === 'one' ? '1/model.onnx' : 'digits-mlp/1/model.onnx'));
      expect(container.volumeMounts.map(({ mountPath }) => mountPath)).toContain('/tmp');
      const ports = new Map(
        await Promise.all(
          container.ports.map(
            async ({ name, containerPort }) => [name, { own: await freePort(), containerPort }] as const,
          ),
        ),
      );
      const portOf = (port: number | string) =>
        [...ports].find(([name, { containerPort }]) => name === port || containerPort === port)?.[1].own;
      let args = container.args.map((arg) =>
        arg
          .replace('/mnt/models', models)
          .replace('{{.Name}}', 'digits-mlp')
          .replace('--drain-delay=5', '--drain-delay=1'),
      );
      args = args.map((arg) =>
        arg.replace(/^(--(?:http|grpc)-port)=(\d+)$/, (_all, flag, port) => `${flag}=${portOf(Number(port))}`),
      );
      const env: Record<string, string> = Object.fromEntries(
        Object.entries(imageEnv).map(([name, value]) => [name, value.replace('/tmp', tmp)]),
      );
      env['INFERMUX_NODE_NAME'] = 'pod-1';
      // Without rights where that can be.
      const user = process.getuid?.() === 0 ? { uid: 65_532, gid: 65_532 } : {};
      const child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...args], {
        env,
        cwd: '/',
        stdio: ['ignore', 'pipe', 'pipe'],
        ...user,
      });
      const exited = once(child, 'exit');
      let output = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += bytes));
      const probe = async ({ httpGet: { path, port } }: Probe) =>
        fetch(`http://127.0.0.1:${portOf(port)}${path}`).then(
          ({ status }) => status,
          () => 0,
        );
      try {
        await until(async () => {
          if (child.exitCode !== null) throw new Error(output);
          return (await probe(container.startupProbe)) === 200;
        }, 'the container');
        expect([await probe(container.readinessProbe), await probe(container.livenessProbe)]).toStrictEqual([200, 200]);
        const [http, grpc] = [...ports.values()].map(({ own }) => own);
        for (const address of [`http://127.0.0.1:${http}`, `grpc://127.0.0.1:${grpc}`]) {
          const client = await connect(address);
          const { probabilities } = await client.run('digits-mlp', {
            image: { dims: [1, 64], data: new Float32Array(64) },
          });
          expect(probabilities?.dims).toStrictEqual([1, 10]);
          await client.close();
        }
        child.kill('SIGTERM');
        // It is alive, and not ready, while it ends.
        await until(async () => (await probe(container.readinessProbe)) === 503, 'its end');
        expect(await probe(container.livenessProbe)).toBe(200);
        expect(await exited).toStrictEqual([0, null]);
      } finally {
        child.kill('SIGKILL');
      }
    },
  );

  it('ends within the time that Kubernetes gives it', () => {
    for (const [, { args }] of cases) {
      const seconds = (flag: string) => Number(args.find((arg) => arg.startsWith(`--${flag}=`))?.split('=')[1]);
      expect(seconds('drain-delay') + seconds('grace')).toBeLessThan(pod.terminationGracePeriodSeconds);
    }
  });
});
