/**
 * P4: what was checked is a value that only `access/` can make. The type checker refuses every way
 * around it that source code could take; this runs the type checker on each.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { Grant } from '../../src/access/grant.ts';
import type { GrantFacts } from '../../src/access/grant.ts';

const root = join(import.meta.dirname, '..', '..');

/** Messages of the type checker for a file `src/keyring/snippet.ts` of this text. */
function complaints(texts: readonly string[]): readonly (readonly string[])[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) =>
    readFileSync(path, 'utf8'),
  ) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [] }, ts.sys, root);
  const paths = texts.map((_, n) => join(root, 'src', 'keyring', `snippet-${String(n)}.ts`));
  const host = ts.createCompilerHost(options);
  const getSourceFile = host.getSourceFile.bind(host);
  host.getSourceFile = (name, version, ...rest) => {
    const text = texts[paths.indexOf(name)];
    if (text === undefined) return getSourceFile(name, version, ...rest);
    return ts.createSourceFile(name, PREAMBLE + text, version);
  };
  const program = ts.createProgram(paths, options, host);
  return paths.map((path) =>
    program
      .getSemanticDiagnostics(program.getSourceFile(path))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
  );
}

const PREAMBLE = `
import { Grant } from '../access/grant.ts';
import type { GrantFacts } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import type { KeyUse } from './operations.ts';
declare const facts: GrantFacts<'unwrap'>;
declare const grant: Grant<'unwrap'>;
declare const authorizer: Authorizer;
declare const keys: KeyUse;
declare const input: Parameters<KeyUse['unwrap']>[1];
export const used = [Grant, facts, grant, authorizer, keys, input];
`;

const REFUSED: readonly (readonly [string, string])[] = [
  ['the constructor', 'export const forged = new Grant(facts);'],
  ['a subclass', 'export class Forged extends Grant<"unwrap"> {}'],
  ['an object of the same members', 'export const forged: Grant<"unwrap"> = { ...facts };'],
  [
    'an object with getters',
    `export const forged: Grant<'unwrap'> = {
       operation: 'unwrap', namespace: 'a', key: 'k', principal: facts.principal,
       decision: facts.decision, epoch: 1,
     };`,
  ],
  ['a copy of a grant', 'export const forged: Grant<"unwrap"> = { ...grant };'],
  ['a change to a grant', 'grant.operation = "unwrap"; (grant as { key: string }).key = "other";'],
  ['no grant', 'export const result = keys.unwrap(undefined, input);'],
  ['the principal in its place', 'export const result = keys.unwrap(facts.principal, input);'],
  ['the facts in its place', 'export const result = keys.unwrap(facts, input);'],
  [
    'a grant of another operation',
    `export const result = keys.unwrap(
       authorizer.authorize(facts.principal, 'wrap', { namespace: 'a', key: 'k' }), input);`,
  ],
  [
    'a grant of one operation or another',
    `declare const either: Grant<'wrap' | 'unwrap'>;
     export const result = keys.unwrap(either, input);`,
  ],
  [
    'a decision that was not redeemed',
    `export const result = keys.unwrap(
       authorizer.may(facts.principal, 'unwrap', { namespace: 'a', key: 'k' }), input);`,
  ],
  [
    'an operation that does not exist',
    `export const made = authorizer.authorize(facts.principal, 'fly', { namespace: 'a', key: null });`,
  ],
];

describe('the type checker', () => {
  const accepted = `
    export const result = keys.unwrap(
      authorizer.authorize(facts.principal, 'unwrap', { namespace: 'a', key: 'k' }), input);
    export const refined = keys.unwrap(authorizer.refine(grant, {}), input);`;
  const [good = ['not run'], ...results] = complaints([
    accepted,
    ...REFUSED.map(([, text]) => text),
  ]);

  it('accepts a grant that was given for the operation', () => {
    expect(good).toEqual([]);
  });

  it.each(REFUSED.map(([name], n) => [name, n] as const))('refuses %s', (_name, n) => {
    expect(results[n]).not.toEqual([]);
    // Refused for what it is, not because the snippet is broken.
    expect(results[n]?.join('\n')).toMatch(/Grant|private|read-only|not assignable to parameter/u);
  });
});

describe('at run time', () => {
  it('a grant is not made without the module’s own symbol', () => {
    const facts = { operation: 'unwrap' } as unknown as GrantFacts<'unwrap'>;
    expect(() => Grant.of(facts, Symbol('minting'))).toThrow(TypeError);
  });

  it('an object that only looks like one has nothing to redeem', () => {
    const forged = Object.create(Grant.prototype) as Grant<'unwrap'>;
    expect(() => forged.operation).toThrow(TypeError);
  });

  it('is made where it is decided, by policies or by what was lent, and for asking where what is asked for was granted', () => {
    const src = join(root, 'src');
    const paths = readdirSync(src, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !path.startsWith('store/generated'))
      .filter((path) =>
        /\bmintGrant\b|\bGrant\s*\.\s*of\b/u.test(readFileSync(join(src, path), 'utf8')),
      );
    expect(paths.sort()).toEqual([
      'access/approval-request.ts',
      'access/authorize.ts',
      'access/delegation.ts',
      'access/grant.ts',
      'access/local-access.ts',
    ]);
  });

  it('a cast to a grant is nowhere in the source', () => {
    const src = join(root, 'src');
    const casts = readdirSync(src, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !path.startsWith('store/generated'))
      .filter((path) =>
        /\bas\s+(?:unknown\s+as\s+)?Grant\b/u.test(readFileSync(join(src, path), 'utf8')),
      );
    expect(casts).toEqual([]);
  });
});
