module actor

go 1.26
