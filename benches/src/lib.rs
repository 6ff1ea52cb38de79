//! One module per published claim: measures us beside our peers and prints the table.
