#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(read) = freezeframe::hostile::target("shred") {
        read(data);
    }
});
