import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import YAML from 'yaml';
import { parseAddress, parseAddresses, textOf } from '../../dist/cluster/addresses.js';
import { envoyConfig } from '../../dist/cluster/proxies/envoy.js';
import { BACKENDS, haproxyConfig } from '../../dist/cluster/proxies/haproxy.js';
import { AFTER_MODEL, BEFORE_MODEL, pairNodes, serverIds } from '../../dist/cluster/proxies/proxied-nodes.js';
import { MODEL_ACTIONS, readModelPath } from '../../dist/server/http/model-path.js';
import { makeCertificates } from '../support/certificates.js';
import { isInstalled } from '../support/cluster/hosts.js';
import { directory } from '../support/directories.js';
import { envoyFaults } from '../support/schemas/envoy.js';

const bind = { host: '127.0.0.1', port: 1 };
const nodesOf = (...texts: string[]) => pairNodes(texts.map(parseAddress), undefined);

describe('addresses', () => {
  it('are host:port, with brackets for IPv6, and come back as they were', () => {
    for (const text of ['10.0.0.1:8000', 'node-1.internal:65535', 'a_b.c.:1', '[::1]:1', '[fe80::1]:8000']) {
      expect(textOf(parseAddress(text))).toBe(text);
    }
    expect(parseAddresses('a:1, b:2')).toStrictEqual([
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ]);
  });

  it('are refused where they could not stand in a configuration', () => {
    const wrong = [
      '',
      'a',
      'a:',
      ':1',
      'a:0',
      'a:65536',
      'a:1:2',
      'a b:1',
      'a\nserver x:1',
      '[::1:1',
      'a#:1',
      "a':1",
      '[a b]:1',
      '[:::::]:1',
      '[a]:1',
      '-x:1',
      'x-:1',
      'a..b:1',
      '.a:1',
    ];
    for (const text of wrong) expect(() => parseAddress(text), text).toThrow('expected host:port');
    expect(() => parseAddresses('a:1,b:2,a:1')).toThrow('a:1 is there twice');
    expect(() => parseAddresses('a:1,')).toThrow('expected host:port');
    expect(() => pairNodes(parseAddresses('a:1,b:2'), parseAddresses('a:3'))).toThrow('--nodes names 2 and --grpc 1: ');
  });
});

describe('places on the ring', () => {
  it('follow from the address alone, whatever else is on the list and in which order', () => {
    const all = nodesOf(...Array.from({ length: 254 }, (_, index) => `10.0.0.${index + 1}:8000`));
    const ids = serverIds(all);
    expect(new Set(ids).size).toBe(all.length);
    for (const id of ids) expect(id > 0 && id < 2 ** 20).toBe(true);
    fc.assert(
      fc.property(fc.shuffledSubarray(all, { minLength: 1 }), (some) => {
        expect(serverIds(some)).toStrictEqual(some.map((node) => ids[all.indexOf(node)]));
      }),
    );
  });
});

describe('the model in a path', () => {
  it('is for proxies the same as for nodes', () => {
    const name = fc.stringMatching(/^[a-z.][a-z0-9._-]{0,8}(\/[a-z.][a-z0-9._-]{0,8})?$/);
    const version = fc.option(fc.constantFrom('1', '17'), { nil: undefined });
    fc.assert(
      fc.property(name, version, fc.constantFrom(...Object.keys(MODEL_ACTIONS)), (model, given, action) => {
        const rest = [model, ...(given === undefined ? [] : ['versions', given]), ...(action === '' ? [] : [action])];
        const path = rest.join('/');
        const read = `/v2/models/${path}`.replace(new RegExp(BEFORE_MODEL), '').replace(new RegExp(AFTER_MODEL), '');
        expect(read).toBe(readModelPath(path).name);
      }),
    );
  });
});

describe('a configuration of HAProxy', () => {
  const nodes = pairNodes(
    parseAddresses('10.0.0.1:8000,[fd00::2]:8000'),
    parseAddresses('10.0.0.1:8001,[fd00::2]:8001'),
  );
  const configs = {
    REST: haproxyConfig({ nodes, bind, bindGrpc: undefined }),
    both: haproxyConfig({ nodes, bind, bindGrpc: { host: '127.0.0.1', port: 2 } }),
    template: haproxyConfig(
      { nodes: [], bind, bindGrpc: { host: '::', port: 2 } },
      { slots: 8, socket: '/tmp/s.sock' },
    ),
    ...(isInstalled('openssl') ? secureConfigs(makeCertificates([]).file('ca.crt')) : {}),
  };

  function secureConfigs(nodeCa: string) {
    const settings = { nodes, bind, bindGrpc: { host: '127.0.0.1', port: 2 }, nodeCa };
    return {
      secure: haproxyConfig(settings),
      secureTemplate: haproxyConfig({ ...settings, nodes: [] }, { slots: 2, socket: '/tmp/s.sock' }),
    };
  }

  it('has each node in each backend, at its place, and gRPC only where it is wanted', () => {
    for (const text of ['10.0.0.1:8000 id', '[fd00::2]:8000 id']) {
      expect(configs.both.split(text)).toHaveLength(BACKENDS.rest.length + 1);
    }
    expect(configs.both.split('10.0.0.1:8001 id')).toHaveLength(BACKENDS.grpc.length + 1);
    expect(configs.REST).not.toContain('grpc from');
    for (const backend of [...BACKENDS.rest, ...BACKENDS.grpc])
      expect(configs.both).toContain(`backend ${backend} from`);
  });

  it('explains itself: no directive of routing is without a sentence above it', () => {
    for (const directive of [
      'tune.bufsize',
      'srvtcpka',
      'retry-on',
      'balance hash',
      'hash-balance-factor',
      'slowstart',
      'track-sc0',
    ]) {
      const lines = configs.both.split('\n');
      const at = lines.findIndex((line) => line.includes(directive) && !line.trim().startsWith('#'));
      expect(at, directive).toBeGreaterThan(0);
      const above = lines.slice(Math.max(0, at - 4), at).some((line) => line.trim().startsWith('#'));
      expect(above, directive).toBe(true);
    }
  });

  it.skipIf(!isInstalled('haproxy'))('is one that HAProxy takes', () => {
    for (const [name, text] of Object.entries(configs)) {
      const file = join(directory(), 'haproxy.cfg');
      writeFileSync(file, text);
      const output = execFileSync('sh', ['-c', `haproxy -c -f ${file} 2>&1`], { encoding: 'utf8' });
      expect(output, name).toContain('Configuration file is valid');
      expect(output, name).not.toMatch(/WARNING|ALERT/);
    }
  });
});

describe('a configuration of Envoy', () => {
  const nodes = pairNodes(
    parseAddresses('10.0.0.1:8000,[fd00::2]:8000'),
    parseAddresses('10.0.0.1:8001,[fd00::2]:8001'),
  );
  const read = (text: string) => {
    const document = YAML.parseDocument(text, { strict: true, uniqueKeys: true });
    expect([...document.errors, ...document.warnings]).toStrictEqual([]);
    return document.toJS();
  };
  const both = read(envoyConfig({ nodes, bind, bindGrpc: { host: '::', port: 2 } }));
  it('lets its regular expressions be as large as they are', () => {
    const sizes = both.layered_runtime.layers.map((layer: { static_layer: { re2: object } }) => layer.static_layer.re2);
    expect(sizes).toStrictEqual([{ max_program_size: { error_level: 1_000 } }]);
  });

  const named = (list: readonly { name: string }[]) => list.map(({ name }) => name);

  it('has the fields that the definitions of its API have', () => {
    expect(envoyFaults(both)).toStrictEqual([]);
    expect(envoyFaults(read(envoyConfig({ nodes, bind, bindGrpc: undefined })))).toStrictEqual([]);
    const secure = read(envoyConfig({ nodes, bind, bindGrpc: { host: '::', port: 2 }, nodeCa: '/etc/ca.crt' }));
    expect(envoyFaults(secure)).toStrictEqual([]);
    for (const { name, transport_socket, health_checks } of secure.static_resources.clusters) {
      const isGrpc = name.startsWith('grpc');
      expect(transport_socket.typed_config.common_tls_context).toStrictEqual({
        alpn_protocols: [isGrpc ? 'h2' : 'http/1.1'],
        validation_context: { trusted_ca: { filename: '/etc/ca.crt' } },
      });
      // The probes are of HTTP/1.1, whatever the requests are.
      expect(health_checks[0].tls_options?.alpn_protocols).toStrictEqual(isGrpc ? ['http/1.1'] : undefined);
    }
  });

  it('would be refused with a wrong field, a wrong name or a wrong kind of value', () => {
    const wrong: [string, string, string][] = [
      ['lb_policy: RING_HASH', 'lb_policy: RING', 'has no RING'],
      ['connect_timeout: 1s', 'connect_timeout: 1', 'no duration'],
      ['num_retries: 3', 'number_retries: 3', 'has no such field'],
      ['port_value: 9901', 'port_value: x', 'must be a number'],
      ['filters.http.router.v3.Router', 'filters.http.router.v3.Routers', 'no message'],
    ];
    for (const [from, to, why] of wrong) {
      const text = envoyConfig({ nodes, bind, bindGrpc: undefined }).replace(from, to);
      expect(envoyFaults(read(text)).join('\n'), from).toContain(why);
    }
  });

  it('has each node in each cluster, hashes the model of the path, and gRPC only where it is wanted', () => {
    const { listeners, clusters } = both.static_resources;
    expect([named(listeners), named(clusters)]).toStrictEqual([
      ['rest', 'grpc'],
      ['rest', 'rest_any', 'grpc', 'grpc_any'],
    ]);
    for (const { load_assignment } of clusters) expect(load_assignment.endpoints[0].lb_endpoints).toHaveLength(2);
    const rest = read(envoyConfig({ nodes, bind, bindGrpc: undefined })).static_resources;
    expect([named(rest.listeners), named(rest.clusters)]).toStrictEqual([['rest'], ['rest', 'rest_any']]);
    const [{ route }] = listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes;
    const { pattern, substitution } = route.hash_policy[0].header.regex_rewrite;
    expect(substitution).toBe('\\3');
    const keyOf = (path: string) => path.replace(new RegExp(pattern.regex), '$3');
    for (const path of [
      '/v2/models/a%20b/infer',
      '/v2/models/a%20b/versions/2/infer',
      '/v2/models/a%20b@2/ready',
      '/v2/repository/models/a%20b/load',
      '/v2/models/a%20b%402/infer',
      '/v2/models/a%20b?x',
      '/v2/models/a%20b/infer?x',
    ])
      expect(keyOf(path)).toBe('a%20b');
    expect(keyOf('/v2/models/deployment/a/versions/2/infer')).toBe('deployment/a');
    const [{ route: grpc }] =
      listeners[1].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes;
    const { pattern: own, substitution: part } = grpc.hash_policy[0].header.regex_rewrite;
    expect(part).toBe('\\1');
    for (const name of ['a', 'a@2', 'a%402']) expect(name.replace(new RegExp(own.regex), '$1')).toBe('a');
  });
});
