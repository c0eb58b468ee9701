module prover

go 1.26
