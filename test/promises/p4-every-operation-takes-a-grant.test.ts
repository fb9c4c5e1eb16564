/**
 * P4, against two classes of advisories that peers have published: an operation authorised under
 * another operation's name, and a second path to a key (rekey, import, rewrap) that forgot the check.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { OPERATIONS } from '../../src/access/grant.ts';
import { SecurityEpoch } from '../../src/epoch.ts';

interface Method {
  readonly name: string;
  /** Operations of the grant that is its first parameter; empty when that is something else. */
  readonly operations: readonly string[];
}

const path = join(import.meta.dirname, '..', '..', 'src', 'keyring', 'operations.ts');
const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest);

const isNamed = (node: ts.Node, text: string): boolean =>
  ts.isIdentifier(node) && node.text === text;

function operationsOf(type: ts.TypeNode | undefined): readonly string[] {
  if (type === undefined) return [];
  if (ts.isUnionTypeNode(type)) {
    const parts = type.types.map(operationsOf);
    return parts.some((part) => part.length === 0) ? [] : parts.flat();
  }
  if (!ts.isTypeReferenceNode(type) || !isNamed(type.typeName, 'Grant')) return [];
  const [argument] = type.typeArguments ?? [];
  if (argument === undefined || !ts.isLiteralTypeNode(argument)) return [];
  return ts.isStringLiteral(argument.literal) ? [argument.literal.text] : [];
}

const others = ['lifecycle-operations.ts', 'job-operations.ts'].map((name) => {
  const file = join(path, '..', name);
  return ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
});

const methods: readonly Method[] = [source, ...others]
  .flatMap(({ statements }) => [...statements])
  .filter(ts.isInterfaceDeclaration)
  .filter(({ name }) =>
    ['KeyUse', 'KeyRead', 'KeyManage', 'KeyLifecycle', 'LongOperations'].includes(name.text),
  )
  .flatMap(({ members }) => members.filter(ts.isMethodSignature))
  .map(({ name, parameters }) => ({
    name: ts.isIdentifier(name) ? name.text : '',
    operations: operationsOf(parameters[0]?.type),
  }));

describe('an operation of the keyring', () => {
  it('is found here', () => {
    expect(methods.length).toBeGreaterThanOrEqual(31);
  });

  it.each(methods.map(({ name, operations }) => [name, operations] as const))(
    '%s takes a grant of its own first',
    (_name, operations) => {
      expect(operations).not.toEqual([]);
      for (const operation of operations) expect(OPERATIONS).toContain(operation);
    },
  );

  it('shares its grant with no other, but for what is the same act in another form', () => {
    const takers = new Map<string, string[]>();
    for (const { name, operations } of methods) {
      for (const operation of operations) {
        takers.set(operation, [...(takers.get(operation) ?? []), name]);
      }
    }
    const shared = [...takers].filter(([, names]) => names.length > 1);
    expect(Object.fromEntries(shared)).toEqual({
      'data-keys.create': ['wrap', 'random'],
      'data-keys.create-wrapped': ['wrap', 'random'],
      wrap: ['wrap', 'wrapMany'],
      unwrap: ['unwrap', 'unwrapMany'],
      rewrap: ['rewrap', 'rewrapMany', 'admitRewrap'],
      'rewrap-jobs.continue': ['openRewrapJob', 'advanceRewrapJob', 'finishRewrapJob'],
      'operations.read': ['get', 'list'],
      'keys.read': ['get', 'fresh', 'tombstones', 'certificateChain'],
      'versions.uses': ['uses', 'users'],
      sign: ['sign', 'signJws'],
      verify: ['verify', 'verifyJws'],
      'versions.activate': ['activateVersion', 'activateDue'],
      'versions.deactivate': ['deactivateVersion', 'deactivateDue'],
    });
  });

  it('rewrap takes a grant on the key that it rewraps to as well', () => {
    const rewrap = /\brewrap\(\s*grant: Grant<'rewrap'>,\s*to: Grant<'rewrap'> \| null,/u;
    expect(source.text).toMatch(rewrap);
  });
});

describe('a grant', () => {
  const principal = {
    issuer: 'https://issuer.example',
    subject: 'alice',
    method: 'jwt',
    roles: ['admin'],
    acr: null,
    amr: [],
    session: new Uint8Array(16),
    expiresAt: new Date(0),
    namespace: null,
  } as const;
  const access = PolicyAuthorizer.of({ epoch: new SecurityEpoch(1) });

  it.each(['wrap', 'unwrap', 'keys.rotate', 'versions.suspend'] as const)(
    'for %s names it and its key, before and after the body was read',
    (operation) => {
      const grant = access.authorize(principal, operation, { namespace: 'ns', key: 'k' });
      for (const each of [grant, access.refine(grant, { encryptionContext: { a: 'b' } })]) {
        expect(each).toMatchObject({ operation, namespace: 'ns', key: 'k', principal });
      }
    },
  );
});
