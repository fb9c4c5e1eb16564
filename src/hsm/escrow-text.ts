/** A wrapped root as JSON, between the ceremony process and who started it. */
import type { EscrowedRoot } from './ceremony-transport.ts';
import type { RootOnToken } from './port.ts';

/** Bytes in base64. */
export interface EscrowText {
  readonly root: RootOnToken;
  readonly publicKey: string;
  readonly point: string;
  readonly ciphertext: string;
  readonly wrapped: string;
  readonly transcript: string;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const bytes = (from: string): Uint8Array => Uint8Array.from(Buffer.from(from, 'base64'));

export const escrowText = (escrow: EscrowedRoot): EscrowText => ({
  root: escrow.root,
  publicKey: text(escrow.publicKey),
  point: text(escrow.point),
  ciphertext: text(escrow.ciphertext),
  wrapped: text(escrow.wrapped),
  transcript: text(escrow.transcript),
});

export const escrowOf = (escrow: EscrowText): EscrowedRoot => ({
  root: escrow.root,
  publicKey: bytes(escrow.publicKey),
  point: bytes(escrow.point),
  ciphertext: bytes(escrow.ciphertext),
  wrapped: bytes(escrow.wrapped),
  transcript: bytes(escrow.transcript),
});
