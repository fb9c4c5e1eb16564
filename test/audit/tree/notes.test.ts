import { generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  formatCheckpoint,
  parseCheckpoint,
  parseSignedCheckpoint,
} from '../../../src/audit/tree/checkpoint.ts';
import { formatNote, parseNote, parseSignatureLines } from '../../../src/audit/tree/note.ts';
import type { Note } from '../../../src/audit/tree/note.ts';
import { signedMessage, signText, verifyNote } from '../../../src/audit/tree/signatures.ts';
import { formatTlogProof, parseTlogProof } from '../../../src/audit/tree/tlog-proof.ts';
import {
  formatVkey,
  makeVkey,
  parseVkey,
  parseVkeys,
  SIGNATURE_TYPE,
} from '../../../src/audit/tree/vkey.ts';
import type { SignatureType } from '../../../src/audit/tree/vkey.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Of the documentation of golang.org/x/mod/sumdb/note, where the format comes from. */
const PETER = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const PETERS_NOTE =
  'If you think cryptography is the answer to your problem,\n' +
  "then you don't know what your problem is.\n" +
  '\n' +
  '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
const SUM_GOLANG = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8';
/** C2SP tlog-cosignature. */
const SOFA =
  'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n' +
  '— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n' +
  '— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n';
/** C2SP signed-note: a text with an empty line in it. */
const OGNUNO =
  'Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n' +
  '— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n';

function keyOf(name: string, type: SignatureType) {
  const pair =
    type === SIGNATURE_TYPE.mlDsa44Cosignature
      ? generateKeyPairSync('ml-dsa-44')
      : generateKeyPairSync('ed25519');
  const spki = pair.publicKey.export({ format: 'der', type: 'spki' });
  const raw = spki.subarray(type === SIGNATURE_TYPE.mlDsa44Cosignature ? -1312 : -32);
  const signer = (message: Uint8Array) => sign(null, message, pair.privateKey);
  return { vkey: makeVkey(name, type, raw), signer };
}

const TEXT = formatCheckpoint({
  origin: 'log.example/audit',
  size: 7,
  root: new Uint8Array(32).fill(5),
});
const [LOG, WITNESS, QUANTUM] = [
  keyOf('log.example/audit', SIGNATURE_TYPE.ed25519),
  keyOf('witness.example/w1', SIGNATURE_TYPE.ed25519Cosignature),
  keyOf('log.example/audit', SIGNATURE_TYPE.mlDsa44Cosignature),
];
const KEYS = [LOG, WITNESS, QUANTUM];
const signedNote = async (): Promise<Note> => ({
  text: TEXT,
  signatures: await Promise.all(
    KEYS.map(({ vkey, signer }) => signText(TEXT, vkey, 1_700_000_000, signer)),
  ),
});

describe('published notes and keys', () => {
  it('verifies the note that the format was documented with', () => {
    const vkey = parseVkey(PETER);
    expect(formatVkey(vkey)).toBe(PETER);
    const note = parseNote(PETERS_NOTE);
    expect(formatNote(note)).toBe(PETERS_NOTE);
    expect(verifyNote(note, [vkey])).toEqual({ verified: [{ vkey, seconds: null }], failed: [] });
    const other = { ...note, text: note.text.replace('answer', 'Answer') };
    expect(verifyNote(other, [vkey])).toEqual({ verified: [], failed: [vkey] });
  });

  it('has the key id of sum.golang.org', () => {
    expect(parseVkey(SUM_GOLANG)).toMatchObject({ keyId: '033de0ae', name: 'sum.golang.org' });
  });

  it('reads the examples of C2SP', () => {
    const sofa = parseSignedCheckpoint(SOFA);
    expect(sofa).toMatchObject({ origin: 'example.com/behind-the-sofa', size: 20_852_163 });
    expect(hex(sofa.root)).toBe('0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62');
    const [log, witness] = sofa.note.signatures;
    expect([log?.keyId, log?.signature.length]).toEqual(['033de0ae', 64]);
    // The time of the example: 1679315147.
    expect(hex(witness?.signature.subarray(0, 8) ?? Uint8Array.of())).toBe('00000000641850cb');
    expect(formatNote(sofa.note)).toBe(SOFA);
    expect(parseNote(OGNUNO).text.split('\n')).toHaveLength(5);
    expect(formatNote(parseNote(OGNUNO))).toBe(OGNUNO);
  });

  it('signs what the examples of C2SP say', () => {
    const text = parseNote(SOFA).text;
    const message = signedMessage(text, WITNESS.vkey, 1_679_315_147);
    expect(new TextDecoder().decode(message)).toBe(`cosignature/v1\ntime 1679315147\n${text}`);
    const subtree = signedMessage(TEXT, QUANTUM.vkey, 3);
    const name = Buffer.from('log.example/audit').toString('hex');
    expect(hex(subtree)).toBe(
      `${Buffer.from('subtree/v1\n\0').toString('hex')}11${name}0000000000000003` +
        `11${name}00000000000000000000000000000007${'05'.repeat(32)}`,
    );
  });
});

describe('signatures', () => {
  it('verify, of all three types', async () => {
    const note = parseNote(formatNote(await signedNote()));
    const { verified, failed } = verifyNote(
      note,
      KEYS.map(({ vkey }) => vkey),
    );
    expect(verified.map(({ vkey, seconds }) => [vkey.type, seconds])).toEqual([
      [1, null],
      [4, 1_700_000_000],
      [6, 1_700_000_000],
    ]);
    expect(failed).toEqual([]);
  });

  it('of unknown keys are not looked at', async () => {
    const note = await signedNote();
    const stranger = keyOf('log.example/audit', SIGNATURE_TYPE.ed25519);
    expect(verifyNote(note, [stranger.vkey])).toEqual({ verified: [], failed: [] });
    expect(verifyNote(note, [])).toEqual({ verified: [], failed: [] });
  });

  it('fail with one bit of signature, time or text changed', async () => {
    const note = await signedNote();
    for (const [at, { vkey }] of KEYS.entries()) {
      const original = note.signatures[at];
      if (original === undefined) throw new Error('no signature');
      for (const where of [0, 7, 8, 40, original.signature.length - 1]) {
        const signature = Uint8Array.from(original.signature);
        signature[where] = (signature[where] ?? 0) ^ 1;
        const touched = { text: TEXT, signatures: [{ ...original, signature }] };
        expect(verifyNote(touched, [vkey])).toEqual({ verified: [], failed: [vkey] });
      }
      const short = { ...original, signature: original.signature.subarray(1) };
      expect(verifyNote({ text: TEXT, signatures: [short] }, [vkey]).failed).toEqual([vkey]);
      const larger = TEXT.replace('\n7\n', '\n8\n');
      expect(verifyNote({ ...note, text: larger }, [vkey]).failed).toEqual([vkey]);
    }
    const verse = { text: 'no checkpoint\n', signatures: note.signatures };
    expect(verifyNote(verse, [QUANTUM.vkey]).failed).toEqual([QUANTUM.vkey]);
  });

  it('of a key on one type are none of the other', async () => {
    const timed = { ...LOG.vkey, type: SIGNATURE_TYPE.ed25519Cosignature } as const;
    const { keyId } = makeVkey(timed.name, timed.type, timed.publicKey);
    expect(keyId).not.toBe(LOG.vkey.keyId);
    await expect(signText(TEXT, QUANTUM.vkey, 1, LOG.signer)).rejects.toMatchObject({
      code: 'internal',
    });
  });
});

describe('strict parsing', () => {
  it.each(
    [
      ['', 'nothing'],
      ['text\n', 'no signatures'],
      ['text\n\n', 'no signature line'],
      ['\n\n— a AAAAAAA=\n', 'no text'],
      ['text\n\n- a AAAAAAA=\n', 'a hyphen'],
      ['text\n\n— a+b AAAAAAA=\n', 'a plus'],
      ['text\n\n— a  AAAAAAA=\n', 'two spaces'],
      ['text\n\n— a AAAAAAA\n', 'no padding'],
      ['text\n\n— a AAAAAA==\n', 'no signature after the id'],
      ['text\n\n— a AAAAAAB=\n', 'unused bits'],
      ['text\n\n— a AAAAAAA=', 'no last line feed'],
      ['te\txt\n\n— a AAAAAAA=\n', 'a control character'],
      ['text\r\n\n— a AAAAAAA=\n', 'a carriage return'],
      ['te\ud800xt\n\n— a AAAAAAA=\n', 'half a surrogate pair'],
      [`text\n\n${'— a AAAAAAA=\n'.repeat(65)}`, 'too many'],
      [`${'x'.repeat(600_000)}\n\n— a AAAAAAA=\n`, 'too long'],
    ].map(([note, what]) => [what, note] as const),
  )('refuses a note with %s', (_what, note = '') => {
    expect(() => parseNote(note)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^invalid_/) as unknown }),
    );
  });

  it.each([
    'log.example\n7\n',
    'log.example\n07\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n',
    'log.example\n-7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n',
    'log.example\n9007199254740993\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n',
    'log example\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n',
    '\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n',
    'log.example\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n',
    'log.example\n7\nAAAA\n',
    'log.example\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nextension\n',
    'log.example\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=',
  ])('refuses the checkpoint %j', (text) => {
    expect(() => parseCheckpoint(text)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^invalid_/) as unknown }),
    );
  });

  it.each([
    PETER.replace('c74f20a3', 'c74f20a4'),
    PETER.replace('c74f20a3', 'C74F20A3'),
    PETER.replace('+AR', '+BR'),
    PETER.replace('+ARpc', '+CRpc'),
    PETER.slice(0, -4),
    `${PETER}\n`,
    PETER.replace('Peter', 'Peter '),
    'a+b',
    '',
  ])('refuses the verifier key %j', (text) => {
    expect(() => parseVkey(text)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^invalid_/) as unknown }),
    );
  });

  it('reads files of verifier keys', () => {
    const file = `# pinned\n\n${PETER}\r\n  ${SUM_GOLANG}\n`;
    expect(parseVkeys(file).map(formatVkey)).toEqual([PETER, SUM_GOLANG]);
    expect(() => parseVkeys(`${PETER}\n${PETER}\n`)).toThrow();
    expect(() => parseVkeys('nonsense')).toThrow();
  });

  it('reads back every note that it writes', () => {
    const line = fc.string({ unit: 'grapheme' }).filter((text) => !/[\u0000-\u001f]/.test(text));
    const name = line.filter((text) => text !== '' && !/[\s\u0085+]/u.test(text));
    const signature = fc.record({
      name,
      keyId: fc.stringMatching(/^[0-9a-f]{8}$/),
      signature: fc.uint8Array({ minLength: 1, maxLength: 80 }),
    });
    fc.assert(
      fc.property(
        fc.array(line, { minLength: 1 }),
        fc.array(signature, { minLength: 1, maxLength: 16 }),
        (lines, signatures) => {
          const text = `${lines.join('\n')}\n`;
          const written = formatNote({ text, signatures });
          fc.pre(text !== '\n');
          expect(parseNote(written)).toEqual({ text, signatures });
          expect(parseSignatureLines(written.slice(text.length + 1))).toEqual(signatures);
        },
      ),
    );
  });
});

describe('tlog-proof', () => {
  const hashes = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const proof = { index: 73_894, hashes, checkpoint: SOFA, extra: null };

  it('reads what it writes', () => {
    const text = formatTlogProof(proof);
    expect(text.split('\n').slice(0, 2)).toEqual(['c2sp.org/tlog-proof@v1', 'index 73894']);
    expect(parseTlogProof(text)).toEqual(proof);
    const more = { ...proof, hashes: [], extra: Uint8Array.of(1, 2) };
    expect(parseTlogProof(formatTlogProof(more))).toEqual(more);
  });

  it.each([
    (text: string) => text.replace('@v1', '@v2'),
    (text: string) => text.replace('index 7', 'index 07'),
    (text: string) => text.replace('index', 'Index'),
    (text: string) => text.replace('index 73894\n', ''),
    (text: string) => text.replace('AQEB', 'AQE'),
    (text: string) => text.replace('index 73894', 'index 73894\nAAAA'),
    (text: string) => text.replace('@v1\n', '@v1\nextra\n'),
    (text: string) => text.replace('\n\n', '\n'),
    (text: string) => text.slice(0, -1),
    (text: string) =>
      text.replace(
        'index 73894\n',
        `index 73894\n${'A'.repeat(43)}=\n`.repeat(1) + `${'A'.repeat(43)}=\n`.repeat(53),
      ),
  ])('refuses what it does not write (%#)', (change) => {
    const text = formatTlogProof(proof);
    expect(change(text)).not.toBe(text);
    expect(() => parseTlogProof(change(text))).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^invalid_/) as unknown }),
    );
  });
});
