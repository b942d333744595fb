//! AES-GCM (NIST SP 800-38D) with 256-bit VAES and VPCLMULQDQ: two blocks an instruction, sixteen at a time, key schedule and
//! powers of H prepared once.
//!
//! ```text
//! plain ── 8 × 2 blocks ── xor keystream ──► sealed          (one pass)
//!                                 └─ × H¹⁶ … H¹, sum ── one reduction for 16 blocks ──► tag
//! ```
//! The safe reference is `aws_lc_rs`; the tests below hold the two together. GHASH works on byte-reversed blocks with H shifted
//! by one bit, as "Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode" (323640) has it.
//!
//! All `unsafe` is in four loads and stores of whole arrays, and in the calls that enter code for a processor that `new` has
//! checked for.

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::multiple_unsafe_ops_per_block)]

use std::arch::x86_64::*;

/// Blocks of one reduction, and bytes of them.
const GROUP: usize = 16;
const GROUP_BYTES: usize = 16 * GROUP;
/// Registers of two blocks in a group.
const PAIRS: usize = GROUP / 2;
/// Round keys of AES-256, which has more than AES-128.
const ROUND_KEYS_MAX: usize = 15;

type Block = [u8; 16];
type Group = [u8; GROUP_BYTES];

/// A prepared key. That there is one shows that the processor has what the kernel needs.
pub(crate) struct VaesGcm {
    round_keys: [Block; ROUND_KEYS_MAX],
    /// 10 or 14.
    rounds: Rounds,
    /// H¹⁶ to H¹, so that the last block of any number of them meets H¹.
    powers: [Block; GROUP],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounds {
    Ten,
    Fourteen,
}

impl VaesGcm {
    /// Prepares a key of 16 or 32 bytes. `None` for others, and where the processor cannot run the kernel.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let is_able = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq");
        if !is_able {
            return None;
        }
        // SAFETY: the processor has just been asked for every feature that `prepare` is compiled for.
        unsafe { prepare(key) }
    }

    /// Encrypts `plain` to `sealed`, which is as long, and gives the tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
        sealed: &mut [u8],
    ) -> Block {
        assert_eq!(plain.len(), sealed.len(), "the cipher keeps the length");
        match self.rounds {
            // SAFETY: `self` exists, so `new` has found the processor able.
            Rounds::Ten => unsafe { seal::<10>(self, nonce, aad, plain, sealed) },
            // SAFETY: as above.
            Rounds::Fourteen => unsafe { seal::<14>(self, nonce, aad, plain, sealed) },
        }
    }

    /// Decrypts in place and gives the tag that the text should have had; until it was compared, the text is not to be used.
    pub(crate) fn open(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Block {
        match self.rounds {
            // SAFETY: `self` exists, so `new` has found the processor able.
            Rounds::Ten => unsafe { open::<10>(self, nonce, aad, text) },
            // SAFETY: as above.
            Rounds::Fourteen => unsafe { open::<14>(self, nonce, aad, text) },
        }
    }
}

// ── Loads and stores ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block) -> __m128i {
    // SAFETY: sixteen bytes are readable behind the reference, and no alignment is asked for.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(block: &mut Block, value: __m128i) {
    // SAFETY: sixteen bytes are writable behind the reference, and no alignment is asked for.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_pair(pair: &[Block; 2]) -> __m256i {
    // SAFETY: thirty-two bytes are readable behind the reference, and no alignment is asked for.
    unsafe { _mm256_loadu_si256(pair.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_pair(pair: &mut [Block; 2], value: __m256i) {
    // SAFETY: thirty-two bytes are writable behind the reference, and no alignment is asked for.
    unsafe { _mm256_storeu_si256(pair.as_mut_ptr().cast(), value) }
}

/// A group as registers of two blocks.
fn pairs(group: &Group) -> &[[Block; 2]; PAIRS] {
    let (blocks, _) = group.as_chunks::<16>();
    let (pairs, _) = blocks.as_chunks::<2>();
    pairs.first_chunk().expect("a group has this many pairs")
}

fn pairs_mut(group: &mut Group) -> &mut [[Block; 2]; PAIRS] {
    let (blocks, _) = group.as_chunks_mut::<16>();
    let (pairs, _) = blocks.as_chunks_mut::<2>();
    pairs
        .first_chunk_mut()
        .expect("a group has this many pairs")
}

// ── Key ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn prepare(key: &[u8]) -> Option<VaesGcm> {
    let rounds = match key.len() {
        16 => Rounds::Ten,
        32 => Rounds::Fourteen,
        _ => return None,
    };
    let mut of = VaesGcm {
        round_keys: expand(key),
        rounds,
        powers: [[0; 16]; GROUP],
    };
    let count = if rounds == Rounds::Ten { 10 } else { 14 };
    let mut h = load(&of.round_keys[0]);
    for round in &of.round_keys[1..count] {
        h = _mm_aesenc_si128(h, load(round));
    }
    h = reverse(_mm_aesenclast_si128(h, load(&of.round_keys[count])));
    let h = times_x(h);
    let mut power = h;
    for place in of.powers.iter_mut().rev() {
        store(place, power);
        power = multiply(power, h);
    }
    Some(of)
}

/// The key schedule (FIPS 197 §5.2). AESKEYGENASSIST takes its constant at compile time, which is why this is on words.
#[target_feature(enable = "avx2,aes")]
fn expand(key: &[u8]) -> [Block; ROUND_KEYS_MAX] {
    let key_words = key.len() / 4;
    let mut words = [0_u32; 4 * ROUND_KEYS_MAX];
    for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let mut constant = 1_u32;
    for at in key_words..words.len() {
        let mut word = words[at - 1];
        if at % key_words == 0 {
            // Least significant byte first, rotating a word by a byte to the left is this.
            word = substitute(word).rotate_right(8) ^ constant;
            constant = (constant << 1) ^ (0x11b * (constant >> 7));
        } else if key_words > 6 && at % key_words == 4 {
            word = substitute(word);
        }
        words[at] = words[at - key_words] ^ word;
    }
    let mut round_keys = [[0; 16]; ROUND_KEYS_MAX];
    for (word, place) in words
        .iter()
        .zip(round_keys.as_flattened_mut().chunks_exact_mut(4))
    {
        place.copy_from_slice(&word.to_le_bytes());
    }
    round_keys
}

/// The S-box on each byte of a word, in constant time.
#[inline]
#[target_feature(enable = "avx2,aes")]
fn substitute(word: u32) -> u32 {
    let wide = _mm_set1_epi32(word.cast_signed());
    // The low word of the result is the S-box on the second word of the operand.
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(wide)).cast_unsigned()
}

// ── GHASH ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[inline]
#[target_feature(enable = "avx2")]
fn reverse(block: __m128i) -> __m128i {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm_shuffle_epi8(block, order)
}

#[inline]
#[target_feature(enable = "avx2")]
fn reverse_pair(pair: __m256i) -> __m256i {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm256_shuffle_epi8(pair, _mm256_broadcastsi128_si256(order))
}

/// x¹²⁷ + x¹²⁶ + x¹²¹ + 1: the field's polynomial, reflected.
#[inline]
#[target_feature(enable = "avx2")]
fn polynomial() -> __m128i {
    _mm_set_epi64x(0xc200_0000_0000_0000_u64.cast_signed(), 1)
}

/// Shifts H by a bit, which reflected products need.
#[inline]
#[target_feature(enable = "avx2")]
fn times_x(h: __m128i) -> __m128i {
    let top = _mm_srai_epi32::<31>(_mm_shuffle_epi32::<0xff>(h));
    let carry = _mm_slli_si128::<8>(_mm_srli_epi64::<63>(h));
    let shifted = _mm_or_si128(_mm_slli_epi64::<1>(h), carry);
    _mm_xor_si128(shifted, _mm_and_si128(top, polynomial()))
}

/// The unreduced sum of products.
struct Sum {
    low: __m256i,
    middle: __m256i,
    high: __m256i,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> Self {
        let zero = _mm256_setzero_si256();
        Self {
            low: zero,
            middle: zero,
            high: zero,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,vpclmulqdq")]
    fn add(&mut self, x: __m256i, h: __m256i) {
        self.low = _mm256_xor_si256(self.low, _mm256_clmulepi64_epi128::<0x00>(x, h));
        self.high = _mm256_xor_si256(self.high, _mm256_clmulepi64_epi128::<0x11>(x, h));
        self.middle = _mm256_xor_si256(self.middle, _mm256_clmulepi64_epi128::<0x01>(x, h));
        self.middle = _mm256_xor_si256(self.middle, _mm256_clmulepi64_epi128::<0x10>(x, h));
    }

    #[inline]
    #[target_feature(enable = "avx2,pclmulqdq")]
    fn reduce(self) -> __m128i {
        let (low, middle, high) = (halves(self.low), halves(self.middle), halves(self.high));
        reduce(
            _mm_xor_si128(low, _mm_slli_si128::<8>(middle)),
            _mm_xor_si128(high, _mm_srli_si128::<8>(middle)),
        )
    }
}

/// The sum of both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(pair: __m256i) -> __m128i {
    _mm_xor_si128(
        _mm256_castsi256_si128(pair),
        _mm256_extracti128_si256::<1>(pair),
    )
}

#[inline]
#[target_feature(enable = "avx2,pclmulqdq")]
fn reduce(low: __m128i, high: __m128i) -> __m128i {
    let fold = |low| {
        let product = _mm_clmulepi64_si128::<0x10>(low, polynomial());
        _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(low), product)
    };
    _mm_xor_si128(high, fold(fold(low)))
}

#[inline]
#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq")]
fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let mut sum = Sum::zero();
    sum.add(_mm256_zextsi128_si256(a), _mm256_zextsi128_si256(b));
    sum.reduce()
}

/// GHASH goes on from `y` over whole blocks.
#[inline]
#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq")]
fn absorb(of: &VaesGcm, mut y: __m128i, blocks: &[Block]) -> __m128i {
    for blocks in blocks.chunks(GROUP) {
        let powers = &of.powers[GROUP - blocks.len()..];
        let mut sum = Sum::zero();
        let mut before = _mm256_zextsi128_si256(y);
        let ((pairs, odd), (power_pairs, odd_power)) =
            (blocks.as_chunks::<2>(), powers.as_chunks::<2>());
        for (pair, power) in pairs.iter().zip(power_pairs) {
            let x = reverse_pair(load_pair(pair));
            sum.add(_mm256_xor_si256(x, before), load_pair(power));
            before = _mm256_setzero_si256();
        }
        if let ([block], [power]) = (odd, odd_power) {
            let x = _mm256_zextsi128_si256(reverse(load(block)));
            let power = _mm256_zextsi128_si256(load(power));
            sum.add(_mm256_xor_si256(x, before), power);
        }
        y = sum.reduce();
    }
    y
}

/// GHASH goes on from `y` over one group that is in registers.
#[inline]
#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq")]
fn absorb_group(of: &VaesGcm, y: __m128i, group: &[__m256i; PAIRS]) -> __m128i {
    let (powers, _) = of.powers.as_chunks::<2>();
    let mut sum = Sum::zero();
    let mut before = _mm256_zextsi128_si256(y);
    for (pair, power) in group.iter().zip(powers) {
        let x = _mm256_xor_si256(reverse_pair(*pair), before);
        sum.add(x, load_pair(power));
        before = _mm256_setzero_si256();
    }
    sum.reduce()
}

/// GHASH of what is authenticated and not encrypted, filled up with zeros.
#[inline]
#[target_feature(enable = "avx2,pclmulqdq,vpclmulqdq")]
fn absorb_aad(of: &VaesGcm, aad: &[u8]) -> __m128i {
    let (blocks, rest) = aad.as_chunks::<16>();
    let mut y = _mm_setzero_si128();
    let mut last = [[0; 16]; 2];
    match (blocks, rest.len()) {
        // A header: one reduction.
        ([first], 1..) => {
            last[0] = *first;
            last[1][..rest.len()].copy_from_slice(rest);
            absorb(of, y, &last)
        }
        _ => {
            y = absorb(of, y, blocks);
            last[0][..rest.len()].copy_from_slice(rest);
            absorb(of, y, &last[..usize::from(!rest.is_empty())])
        }
    }
}

// ── Keystream ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The counter of the next two blocks, least significant byte first.
struct Counter(__m256i);

impl Counter {
    /// The first counter of the text: that of the tag is one, and comes before.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(nonce: &[u8; 12]) -> Self {
        let first = reverse(load(&first_block(nonce)));
        let two = _mm256_set_m128i(_mm_set_epi32(0, 0, 0, 2), _mm_set_epi32(0, 0, 0, 1));
        Self(_mm256_add_epi32(_mm256_broadcastsi128_si256(first), two))
    }

    /// The keystream of the next `2 * N` blocks.
    #[inline]
    #[target_feature(enable = "avx2,vaes")]
    fn keystream<const ROUNDS: usize, const N: usize>(&mut self, of: &VaesGcm) -> [__m256i; N] {
        let step = _mm256_set_epi32(0, 0, 0, 2, 0, 0, 0, 2);
        let key = |round: usize| _mm256_broadcastsi128_si256(load(&of.round_keys[round]));
        let mut blocks = [_mm256_setzero_si256(); N];
        let first = key(0);
        for block in &mut blocks {
            *block = _mm256_xor_si256(reverse_pair(self.0), first);
            self.0 = _mm256_add_epi32(self.0, step);
        }
        for round in 1..ROUNDS {
            let key = key(round);
            for block in &mut blocks {
                *block = _mm256_aesenc_epi128(*block, key);
            }
        }
        let last = key(ROUNDS);
        for block in &mut blocks {
            *block = _mm256_aesenclast_epi128(*block, last);
        }
        blocks
    }

    /// Applies the keystream to the last, incomplete group, two blocks at a time.
    #[inline]
    #[target_feature(enable = "avx2,vaes")]
    fn apply<const ROUNDS: usize>(&mut self, of: &VaesGcm, group: &mut Group, len: usize) {
        let mut pairs = pairs_mut(group)[..len.div_ceil(32)].chunks_exact_mut(2);
        for pairs in &mut pairs {
            let keystream = self.keystream::<ROUNDS, 2>(of);
            for (pair, key) in pairs.iter_mut().zip(keystream) {
                let text = _mm256_xor_si256(load_pair(pair), key);
                store_pair(pair, text);
            }
        }
        for pair in pairs.into_remainder() {
            let [key] = self.keystream::<ROUNDS, 1>(of);
            let text = _mm256_xor_si256(load_pair(pair), key);
            store_pair(pair, text);
        }
    }
}

fn first_block(nonce: &[u8; 12]) -> Block {
    let mut block = [0; 16];
    block[..12].copy_from_slice(nonce);
    block[15] = 1;
    block
}

// ── Seal and open ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn seal<const ROUNDS: usize>(
    of: &VaesGcm,
    nonce: &[u8; 12],
    aad: &[u8],
    plain: &[u8],
    sealed: &mut [u8],
) -> Block {
    let mut counter = Counter::new(nonce);
    let mut y = absorb_aad(of, aad);
    let (groups, rest) = plain.as_chunks::<GROUP_BYTES>();
    let (out_groups, out_rest) = sealed.as_chunks_mut::<GROUP_BYTES>();
    for (group, out) in groups.iter().zip(out_groups) {
        let mut text = counter.keystream::<ROUNDS, PAIRS>(of);
        let places = pairs(group).iter().zip(pairs_mut(out));
        for (text, (pair, out)) in text.iter_mut().zip(places) {
            *text = _mm256_xor_si256(*text, load_pair(pair));
            store_pair(out, *text);
        }
        y = absorb_group(of, y, &text);
    }
    let mut last = [0; GROUP_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    counter.apply::<ROUNDS>(of, &mut last, rest.len());
    out_rest.copy_from_slice(&last[..rest.len()]);
    finish::<ROUNDS>(of, nonce, y, &mut last, [aad.len(), plain.len()])
}

#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn open<const ROUNDS: usize>(of: &VaesGcm, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Block {
    let mut counter = Counter::new(nonce);
    let mut y = absorb_aad(of, aad);
    let len = text.len();
    let (groups, rest) = text.as_chunks_mut::<GROUP_BYTES>();
    for group in groups {
        let keystream = counter.keystream::<ROUNDS, PAIRS>(of);
        let mut sealed = [_mm256_setzero_si256(); PAIRS];
        for (sealed, pair) in sealed.iter_mut().zip(pairs(group)) {
            *sealed = load_pair(pair);
        }
        for (pair, (sealed, key)) in pairs_mut(group)
            .iter_mut()
            .zip(sealed.iter().zip(keystream))
        {
            store_pair(pair, _mm256_xor_si256(*sealed, key));
        }
        y = absorb_group(of, y, &sealed);
    }
    let mut last = [0; GROUP_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    let tag = finish::<ROUNDS>(of, nonce, y, &mut last, [aad.len(), len]);
    counter.apply::<ROUNDS>(of, &mut last, rest.len());
    rest.copy_from_slice(&last[..rest.len()]);
    tag
}

/// The tag: what is left of the sealed text (in front of `last`; what lies behind it is cleared), the lengths, and the keystream
/// of the first counter.
#[inline]
#[target_feature(enable = "avx2,aes,pclmulqdq,vaes,vpclmulqdq")]
fn finish<const ROUNDS: usize>(
    of: &VaesGcm,
    nonce: &[u8; 12],
    y: __m128i,
    last: &mut Group,
    lens: [usize; 2],
) -> Block {
    let rest = lens[1] % GROUP_BYTES;
    last[rest..].fill(0);
    let mut blocks = [[0; 16]; GROUP + 1];
    let (text, _) = last.as_chunks::<16>();
    blocks[..GROUP].copy_from_slice(text);
    let count = rest.div_ceil(16);
    let bits = lens.map(|len| 8 * len as u64);
    blocks[count][..8].copy_from_slice(&bits[0].to_be_bytes());
    blocks[count][8..].copy_from_slice(&bits[1].to_be_bytes());
    let y = absorb(of, y, &blocks[..=count]);
    let mut mask = _mm_xor_si128(load(&first_block(nonce)), load(&of.round_keys[0]));
    for round in &of.round_keys[1..ROUNDS] {
        mask = _mm_aesenc_si128(mask, load(round));
    }
    mask = _mm_aesenclast_si128(mask, load(&of.round_keys[ROUNDS]));
    let mut tag = [0; 16];
    store(&mut tag, _mm_xor_si128(reverse(y), mask));
    tag
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
