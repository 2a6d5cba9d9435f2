//! SS58, in which Substrate chains write accounts: base58 of a prefix, the key and a checksum.
//!
//! [The format](https://docs.polkadot.com/polkadot-protocol/parachain-basics/accounts/#address-formats): one byte of prefix below 64,
//! two bytes from 64 to 16383; then 32 bytes; then the first two bytes of BLAKE2b-512 over `SS58PRE` and all of that.

use blake2::{Blake2b512, Digest};

/// The prefix of bittensor, and of Substrate chains that have none of their own.
const PREFIX: u8 = 42;

const KEY_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 2;

/// No address of a key is longer: 36 bytes in base58.
const LONGEST: usize = 50;

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(payload).finalize();
    [hash[0], hash[1]]
}

/// The address of a key, under prefix 42.
pub(super) fn encode(key: &[u8; KEY_BYTES]) -> String {
    let mut bytes = vec![PREFIX];
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&checksum(&bytes));
    bs58::encode(bytes).into_string()
}

/// The key of an address, whatever its prefix; or what is wrong with it.
pub(super) fn decode(address: &str) -> Result<[u8; KEY_BYTES], &'static str> {
    if address.len() > LONGEST {
        return Err("it is too long");
    }
    let bytes = bs58::decode(address).into_vec().map_err(|_| "it has characters that base58 does not have")?;
    let prefix = match bytes.first() {
        Some(0..64) => 1,
        Some(64..128) => 2,
        _ => return Err("its prefix is none"),
    };
    if bytes.len() != prefix + KEY_BYTES + CHECKSUM_BYTES {
        return Err("it is not of 32 bytes");
    }
    let (payload, sum) = bytes.split_at(prefix + KEY_BYTES);
    if sum != checksum(payload) {
        return Err("its checksum is wrong");
    }
    payload[prefix..].try_into().map_err(|_| "it is not of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alice, whom every Substrate chain knows: her addresses are in Substrate's documentation.
    const ALICE: &str = "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d";

    #[test]
    fn addresses_of_other_chains_are_of_the_same_key() {
        let key: [u8; 32] = const_hex::decode_to_array(ALICE).expect("hexadecimal");
        let address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
        assert_eq!(encode(&key), address, "bittensor's");
        let polkadot = "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5";
        let kusama = "HNZata7iMYWmk5RvZRTiAsSDhV8366zq2YGb3tLH5Upf74F";
        for address in [address, polkadot, kusama] {
            assert_eq!(decode(address), Ok(key), "{address}");
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let address = encode(&[7; 32]);
        for at in 0..address.len() {
            for other in ['1', 'A', 'z', '0', 'é'] {
                let mut changed: Vec<char> = address.chars().collect();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed: String = changed.into_iter().collect();
                assert!(decode(&changed).is_err(), "{changed}");
            }
            assert!(decode(&address[..at]).is_err(), "cut off at {at}");
        }
        assert_eq!(decode(&"1".repeat(1 << 20)), Err("it is too long"), "and is not decoded");
    }

    proptest::proptest! {
        #[test]
        fn prefixes_of_two_bytes_are_read(key: [u8; 32], first in 64_u8..128, second: u8) {
            let mut bytes = vec![first, second];
            bytes.extend(key);
            bytes.extend(checksum(&bytes));
            proptest::prop_assert_eq!(decode(&bs58::encode(bytes).into_string()), Ok(key));
            proptest::prop_assert_eq!(decode(&encode(&key)), Ok(key));
        }
    }
}
