//! The rules of getting out through a customer's web proxy: which proxy, what to ask it, how to answer its challenges.
//!
//! Pure: bytes in, bytes out; randomness and time are passed in.
