use std::io::Read;

use super::*;

#[test]
fn gzip_is_one_stream_that_comes_back() {
    let mut noise = Vec::new();
    let mut state = 1u64;
    for _ in 0..300_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_le_bytes()[3..]);
    }
    for content in [Vec::new(), b"x".to_vec(), vec![7; 5 << 20], noise, vec![1; 1 << 20]] {
        let mut gzip = Gzip::new(Vec::new()).unwrap();
        gzip.write_all(&content).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(packed.len() <= content.len() + content.len() / 500 + 100, "{}", packed.len());
        let mut again = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut again).unwrap();
        assert!(again == content);
    }
}
