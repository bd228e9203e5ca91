//! Other people s readers
